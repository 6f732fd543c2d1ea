"""Prompts as the text encoder takes them: CLIP's byte-pair tokens, a fixed number of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from models.manifest import PackageProblem, read_json

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"  # marks and contractions
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""What is never joined with its neighbours. Source: openai/CLIP, clip/simple_tokenizer.py."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """One prompt for the text encoder.

    ``ids``: int32[1, tokens], begun and ended by their marks and filled up behind. ``count``: tokens of the
    whole prompt, marks not counted. ``ignored``: the end of the prompt that there was no room for.
    """

    ids: NDArray[np.int32]
    count: int
    ignored: str


class PromptTokenizer:
    """A package's own tokenizer: ``tokenizer.json``, or CLIP's ``vocab.json`` and ``merges.txt``.

    Equal to transformers' ``CLIPTokenizer`` with padding to the full length and truncation.

    Raises:
        PackageProblem: the files in ``directory`` are not a tokenizer, or lack a mark.
    """

    def __init__(self, directory: Path) -> None:
        config = read_json(directory / "special_tokens_map.json") | read_json(
            directory / "tokenizer_config.json"
        )
        try:
            self._tokenizer = _read(directory)
        except Exception as error:  # the library raises plain Exception for whatever it cannot read
            raise PackageProblem(f"the tokenizer cannot be read ({error}): download it again") from None
        # Lengths are seen to here, because what is cut off has to be told.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        end = _mark(config, "eos_token", _END)
        self._start = self._id(_mark(config, "bos_token", _START))
        self._end = self._id(end)
        self._fill = self._id(_mark(config, "pad_token", end))

    def tokens(self, prompt: str, length: int) -> PromptTokens:
        """``prompt`` as exactly ``length`` ids, 2 or more."""
        encoded = self._tokenizer.encode(prompt, add_special_tokens=False)
        room = length - 2
        ids = [self._start, *encoded.ids[:room], self._end]
        ids += [self._fill] * (length - len(ids))
        ignored = prompt[encoded.offsets[room][0] :] if len(encoded.ids) > room else ""
        return PromptTokens(np.array([ids], dtype=np.int32), len(encoded.ids), ignored)

    def _id(self, mark: str) -> int:
        found = self._tokenizer.token_to_id(mark)
        if found is None:
            raise PackageProblem(f"its tokenizer does not know its own mark {mark!r}: files of two models?")
        return int(found)


def _mark(config: dict[str, object], name: str, otherwise: str) -> str:
    """A special token, which is written plainly or with its properties."""
    mark = config.get(name)
    if isinstance(mark, dict):
        mark = mark.get("content")
    return mark if isinstance(mark, str) else otherwise


def _read(directory: Path) -> Tokenizer:
    whole = directory / "tokenizer.json"
    if whole.is_file():
        return Tokenizer.from_file(str(whole))
    tokenizer = Tokenizer(
        BPE.from_file(
            str(directory / "vocab.json"),
            str(directory / "merges.txt"),
            unk_token=_END,
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    known = [mark for mark in (_START, _END) if tokenizer.token_to_id(mark) is not None]
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in known])
    return tokenizer
