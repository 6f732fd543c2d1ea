"""Texts as the graph takes them: the package's own tokenizer, marks included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from models.manifest import PackageProblem, read_json


class TextTokenizer:
    """Equal to what transformers makes of the same ``tokenizer.json``, special tokens added.

    ``pad``: the id that fills up a text. Raises PackageProblem when the file is no tokenizer.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception for whatever it cannot read
            raise PackageProblem(f"tokenizer.json cannot be read ({error}): download it again") from None
        self.pad = self._pad_id(directory)
        # Lengths are seen to here: what is too long is refused, or told.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    def ids(self, text: str) -> list[int]:
        """The whole text, however long."""
        return list(self._tokenizer.encode(text).ids)

    def cut(self, text: str, most: int) -> list[int]:
        """The beginning of a text that is too long, with its marks: ``most`` ids."""
        self._tokenizer.enable_truncation(most)
        try:
            return self.ids(text)
        finally:
            self._tokenizer.no_truncation()

    def prompt_length(self, prompt: str) -> int:
        """How many ids at the beginning of a text are its prompt's, the opening mark included.

        As sentence-transformers counts them: all of the prompt alone but a closing mark.
        """
        encoded = self._tokenizer.encode(prompt)
        closes = bool(encoded.special_tokens_mask) and encoded.special_tokens_mask[-1] == 1
        return len(encoded.ids) - int(closes)

    def strange(self, ids: Sequence[int]) -> int | None:
        """The first id that is none of this tokenizer's; None when all are."""
        return next((each for each in ids if each >= self.size), None)

    def _pad_id(self, directory: Path) -> int:
        own = self._tokenizer.padding
        if own is not None:
            return int(own["pad_id"])
        mark = read_json(directory / "tokenizer_config.json").get("pad_token")
        if isinstance(mark, dict):
            mark = mark.get("content")
        found = self._tokenizer.token_to_id(mark) if isinstance(mark, str) else None
        return 0 if found is None else int(found)
