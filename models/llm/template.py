"""The package's own tokenizer and chat template, through ``transformers``, from files only."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.llm.calls import CLOSE_CALL, OPEN_CALL
from models.llm.constraint import Vocabulary
from models.llm.markup import CLOSE_THOUGHTS, OPEN_THOUGHTS
from models.llm.package import LlmPackage, knows_thinking, knows_tools
from models.manifest import read_json
from tasks.errors import InvalidJob, LoadFailed, Unsupported
from tasks.jobs import Message, RawPrompt, Tool

_TURN_ENDS = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)
"""Special tokens that no answer goes on after; a package's ``eos`` often names only one of them."""


_MARKS = (OPEN_THOUGHTS, CLOSE_THOUGHTS, OPEN_CALL, CLOSE_CALL)
"""Tokens that are read in an answer, also where the tokenizer would hide them as special ones."""


_GAP_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
)
"""What stands before the text, the gap, and the answer that fills it. Source: the model cards of
Qwen2.5-Coder, StarCoder2 and DeepSeek-Coder."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation and the answer's beginning; ``in_thoughts``: that lies within thoughts already."""

    ids: list[int]
    in_thoughts: bool


class ChatTokenizer:
    """Messages to token ids and back, as the package's files say."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._template = str(tokenizer.chat_template)
        self._taken = frozenset(inspect.signature(tokenizer.apply_chat_template).parameters)
        special = {
            token: added.content
            for token, added in self._backend.get_added_tokens_decoder().items()
            if added.special
        }
        self._hidden = frozenset(token for token, content in special.items() if content not in _MARKS)
        self._hides_marks = len(self._hidden) < len(special)
        self.stop_ids = stop_ids
        self._vocabulary: Vocabulary | None = None

    @classmethod
    def load(cls, package: LlmPackage) -> ChatTokenizer:
        """Raises LoadFailed when the files are no tokenizer, or carry no chat template."""
        tokenizer = _from_files(package.tokenizer)
        if not tokenizer.chat_template:
            raise LoadFailed(
                f"the tokenizer of {package.directory.name} has no chat template: put chat_template.jinja of "
                f"the original Hugging Face model into {package.tokenizer.name}"
            )
        return cls(tokenizer, frozenset(_stop_ids(tokenizer, package)))

    @property
    def size(self) -> int:
        """One more than the largest id it knows."""
        largest: int = max(self._tokenizer.get_vocab().values())
        return largest + 1

    @property
    def knows_tools(self) -> bool:
        """The template shows tools to the model, and its calls come in a form that is understood here."""
        return knows_tools(self._template)

    @property
    def knows_thinking(self) -> bool:
        return knows_thinking(self._template)

    def knows(self, option: str) -> bool:
        """Whether the template speaks of ``option``; it ignores any other."""
        return option in self._template

    def prompt(
        self, messages: Sequence[Message], options: Mapping[str, Any], tools: Sequence[Tool] = ()
    ) -> Prompt:
        """The conversation and the answer's beginning.

        Raises:
            Unsupported: an option is not the template's but the tokenizer's, such as ``tokenize``.
            InvalidJob: the template refuses the messages.
        """
        for name in sorted(self._taken & set(options)):
            raise Unsupported(f"{name} is not the caller's to choose", param=f"chat_template_kwargs.{name}")
        text = self._rendered(messages, options, [_tool(tool) for tool in tools])
        ids = self.encode(text)
        if not ids:
            raise InvalidJob("the messages come to nothing under the model's chat template", param="messages")
        return Prompt(ids, text.rstrip().endswith(OPEN_THOUGHTS))

    def raw(self, prompt: RawPrompt, vocab: int) -> Prompt:
        """A prompt that goes through no template; what the tokenizer puts before every text comes before it.

        Raises:
            Unsupported: there is a suffix, and the model was not made to fill in what stands before one.
            InvalidJob: the prompt is nothing, or names tokens that a model with ``vocab`` logits has not.
        """
        ids = list(prompt.token_ids)
        if not ids:
            text = prompt.text if prompt.suffix is None else self._gap(prompt.text, prompt.suffix)
            ids = self._begun(text)
        strange = next((token for token in ids if not 0 <= token < vocab), None)
        if strange is not None:
            raise InvalidJob(
                f"the prompt names the token {strange}; this model's are 0 to {vocab - 1}", param="prompt"
            )
        if not ids:
            raise InvalidJob("the prompt is nothing: there is nothing to go on from", param="prompt")
        return Prompt(ids, in_thoughts=False)

    def _gap(self, before: str, after: str) -> str:
        for prefix, suffix, middle in _GAP_MARKS:
            if all(self._backend.token_to_id(mark) is not None for mark in (prefix, suffix, middle)):
                return f"{prefix}{before}{suffix}{after}{middle}"
        raise Unsupported("the model's tokenizer has no tokens to fill in a gap with", param="suffix")

    def _begun(self, text: str) -> list[int]:
        """``text`` with the tokens that begin every text, where it has them not already."""
        plain = self.encode(text)
        begun: list[int] = self._backend.encode(text, add_special_tokens=True).ids
        return plain if plain and begun[:1] == plain[:1] else begun

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: list[int]) -> str:
        if self._hides_marks:
            token_ids = [token for token in token_ids if token not in self._hidden]
        text: str = self._backend.decode(token_ids, skip_special_tokens=not self._hides_marks)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for; none for an id the tokenizer does not know."""
        token = self._backend.id_to_token(token_id)
        if token is None:
            return b""
        if self._bytes_of is not None:
            # Added tokens are written as they are, and may hold characters that stand for no byte.
            if all(char in self._bytes_of for char in token):
                return bytes(self._bytes_of[char] for char in token)
            return str(token).encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        return str(token).replace("\u2581", " ").encode()

    def single(self, text: str) -> int | None:
        """The one token that ``text`` is; None when it is several."""
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    def vocabulary(self, size: int) -> Vocabulary:
        """All tokens of a model with ``size`` logits, for constrained answers. Made once."""
        if self._vocabulary is None or len(self._vocabulary.tokens) != size:
            special = self._backend.get_added_tokens_decoder()
            tokens = [self.token_bytes(token) for token in range(size)]
            self._vocabulary = Vocabulary(tokens, special, self.stop_ids, self.encode)
        return self._vocabulary

    @cached_property
    def _bytes_of(self) -> dict[str, int] | None:
        """The byte that each character of a byte-level vocabulary stands for; None: it is not one."""
        return byte_characters() if self._backend.token_to_id("\u0120") is not None else None

    def _rendered(
        self, messages: Sequence[Message], options: Mapping[str, Any], tools: list[dict[str, Any]]
    ) -> str:
        # Most templates want a call's arguments as the object they are; a few join them as text.
        forms = (json.loads, str) if any(message.calls for message in messages) else (str,)
        fault: Exception | None = None
        for form in forms:
            try:
                text: str = self._tokenizer.apply_chat_template(
                    [_turn(message, form) for message in messages],
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=True,
                    **options,
                )
                return text
            except Exception as error:  # templates are programs of the package: they raise what they like
                fault = fault or error
        raise InvalidJob(
            f"the model's chat template refuses these messages: {fault}", param="messages"
        ) from fault


def _turn(message: Message, arguments: Any) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        turn["reasoning_content"] = message.reasoning
    if message.calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments(call.arguments)},
            }
            for call in message.calls
        ]
    if message.call_id is not None:
        turn["tool_call_id"] = message.call_id
    return turn


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": {**function, "parameters": json.loads(tool.parameters)}}


def byte_characters() -> dict[str, int]:
    """GPT-2's writing of bytes as characters. Source: openai/gpt-2, src/encoder.py, bytes_to_unicode."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def _from_files(directory: Path) -> Any:
    # Both are read once, when the library is imported: nothing here ever asks the network.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises whatever its many parsers do
        raise LoadFailed(f"the tokenizer in {directory} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _stop_ids(tokenizer: Any, package: LlmPackage) -> Iterable[int]:
    declared = [tokenizer.eos_token_id]
    for config in (package.config, read_json(package.tokenizer / "generation_config.json")):
        declared += [config.get("eos"), config.get("eos_token_id")]
    for value in declared:
        yield from value if isinstance(value, list) else [value] if isinstance(value, int) else []
    special = tokenizer.get_added_vocab()
    yield from (special[name] for name in _TURN_ENDS if name in special)
