"""The package's own tokenizer and chat template, through ``transformers``, from files only."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.llm.package import LlmPackage
from models.manifest import read_json
from tasks.errors import InvalidJob, LoadFailed, Unsupported
from tasks.jobs import Message

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


class ChatTokenizer:
    """Messages to token ids and back, as the package's files say."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._template = str(tokenizer.chat_template)
        self._taken = frozenset(inspect.signature(tokenizer.apply_chat_template).parameters)
        self.stop_ids = stop_ids

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

    def prompt_ids(self, messages: Sequence[Message], options: Mapping[str, Any]) -> list[int]:
        """The conversation and the answer's beginning.

        Raises:
            Unsupported: an option is not the template's but the tokenizer's, such as ``tokenize``.
            InvalidJob: the template refuses the messages.
        """
        for name in sorted(self._taken & set(options)):
            raise Unsupported(f"{name} is not the caller's to choose", param=f"chat_template_kwargs.{name}")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **options
            )
        except Exception as error:  # templates are programs of the package: they raise what they like
            raise InvalidJob(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        if not ids:
            raise InvalidJob("the messages come to nothing under the model's chat template", param="messages")
        return ids

    def unknown_options(self, options: Mapping[str, Any]) -> list[str]:
        """The options that the template does not speak of, and therefore ignores."""
        return sorted(name for name in options if name not in self._template)

    def decode(self, token_ids: list[int]) -> str:
        text: str = self._backend.decode(token_ids, skip_special_tokens=True)
        return text


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
