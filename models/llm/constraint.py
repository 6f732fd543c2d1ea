"""Answers that can only be what a grammar allows: which tokens may follow, token by token.

The work of knowing is llguidance's; here it meets a package's tokenizer and the sampler's masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from tasks.errors import Internal, Unsupported
from tasks.grammar import limits

Encode = Callable[[str], list[int]]


class Vocabulary:
    """A model's tokens as llguidance wants them: built when the first answer is bound, and kept.

    For 152,000 tokens that takes a second of one server core.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_ids: Iterable[int],
        stop_ids: Iterable[int],
        encode: Encode | None = None,
    ) -> None:
        """``tokens`` are the bytes of every id that has a logit, none for ids that stand for nothing.

        ``encode`` is how the model's own tokenizer writes a text; without it, byte by byte.
        """
        self.tokens = tokens
        self._encode = encode
        self.stop_ids = sorted(stop_ids)
        self._special_ids = sorted({*special_ids, *self.stop_ids})

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        wrapped = TokenizerWrapper(_Writer(self.tokens, self._special_ids, self.stop_ids[0], self._encode))
        return LLTokenizer(wrapped, eos_token=self.stop_ids, slices=LLTokenizer.json_slices())


class _Writer:
    """What ``TokenizerWrapper`` asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, tokens: Sequence[bytes], special_ids: Sequence[int], eos_token_id: int, encode: Encode | None
    ) -> None:
        self.tokens = [*tokens]
        self.special_token_ids = [*special_ids]
        self.eos_token_id = eos_token_id
        self._encode = encode
        self._single = {token: index for index, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: bytes) -> list[int]:
        """How text that is forced is written: each of its tokens is a step of the card.

        As the model's own tokenizer writes it, unless that adds something of its own; then byte by byte.
        """
        if self._encode is not None:
            ids = self._encode(text.decode("utf-8", "replace"))
            if b"".join(self.tokens[token] for token in ids) == text:
                return ids
        return [self._single[text[at : at + 1]] for at in range(len(text))]


class Constraint:
    """One answer's grammar and how far it has come. ``opening``: a token that may stand before it all.

    logits → sampler(logits, allowed=constraint.allowed()) → constraint.take(token)
    """

    def __init__(self, grammar: str, vocabulary: Vocabulary, opening: int | None = None) -> None:
        """Raises Unsupported when the grammar is one that cannot be followed."""
        self._matcher = LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=limits())
        if self._matcher.is_error():
            raise Unsupported(f"the schema cannot be followed: {self._fault}", param="response_format")
        self._mask: NDArray[np.int32] = np.zeros(-(-len(vocabulary.tokens) // 32), np.int32)
        self._opening = opening

    @property
    def is_over(self) -> bool:
        """Nothing may follow any more."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.int32]:
        """The tokens that may follow: bits packed little-endian, in memory that the next call overwrites.

        A token that ends the turn is among them where the text may end.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        if self._opening is not None:
            word, bit = divmod(self._opening, 32)
            self._mask.view(np.uint32)[word] |= np.uint32(1 << bit)
        return self._mask

    def take(self, token: int) -> None:
        """``token`` is now part of the text."""
        self._opening = None
        self._matcher.consume_token(token)
        self._check()

    def opened(self) -> None:
        """The token that may stand before it all has come; it comes once."""
        self._opening = None

    @property
    def _fault(self) -> str:
        return str(self._matcher.get_error()).split("\n", 1)[0]

    def _check(self) -> None:
        if self._matcher.is_error():
            raise Internal(f"the constraint on the answer failed: {self._fault}")
