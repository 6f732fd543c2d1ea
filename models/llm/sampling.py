"""From logits to one token id: greedy, temperature, top-k and top-p, exact, in memory that is used again.

Order: temperature, then top-k, then top-p over what top-k left, then one draw. Equal logits rank by token id,
the lower one first, so that a set has exactly k members and a greedy answer is the first maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.card import Array
from tasks.errors import EngineError
from tasks.jobs import Sampling

Chooser = Callable[[Array, int], int]
"""``(logits, position) -> token id``; logits are bf16 bits as ``uint16[vocab]``, or ``float32[vocab]``."""

_BLOCK = 64
"""Logits whose maximum is taken together, to find the k largest without sorting them all."""
_NUCLEUS_STEP = 64
_SEED_MASK = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to ``(seed, position)``, on every machine and in every attempt.

    Philox is a function of key and counter; its raw output, unlike numpy's distributions, will not change.
    """
    bits = np.random.Philox(key=seed & _SEED_MASK, counter=position).random_raw()
    return (int(bits) >> 11) * 2.0**-53


class Sampler:
    """Working memory for one vocabulary, used again for every token."""

    def __init__(self, vocab: int) -> None:
        padded = -(-vocab // _BLOCK) * _BLOCK
        self._vocab = vocab
        self._bits = np.zeros(padded, np.uint32)
        self._padded: NDArray[np.float32] = self._bits.view(np.float32)
        self._padded[vocab:] = -np.inf
        self._logits = self._padded[:vocab]
        self._scratch = np.empty(padded, np.float32)
        self._sums = np.empty(vocab, np.float64)
        self._block_maxima = np.empty(padded // _BLOCK, np.float32)

    def chooser(self, sampling: Sampling) -> Chooser:
        """``sampling`` as one function; everything about the options is decided here, before the loop."""
        if sampling.temperature <= 0 or sampling.top_k == 1:
            return lambda raw, position: self._greedy(raw)
        pick = self._pick(sampling)
        seed = sampling.seed

        def choose(raw: Array, position: int) -> int:
            self._load(raw)
            return pick(uniform(seed, position))

        return choose

    def candidates(self, raw: Array, sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tokens that top-k and top-p leave, most probable first, and their probabilities."""
        self._load(raw)
        ids, weights = self._candidates(sampling)
        return ids, weights / weights.sum()

    def _load(self, raw: Array) -> float:
        """Bring the logits in as float32; their maximum."""
        if raw.dtype == np.uint16:
            np.left_shift(raw, 16, out=self._bits[: self._vocab], dtype=np.uint32)
        else:
            self._logits[:] = raw
        top = float(self._logits.max())
        if not np.isfinite(top):
            raise EngineError(
                "the model's logits are not numbers: its files, or its cache on the card, are damaged"
            )
        return top

    def _greedy(self, raw: Array) -> int:
        self._load(raw)
        return int(self._logits.argmax())

    def _pick(self, sampling: Sampling) -> Callable[[float], int]:
        limits_k = 0 < sampling.top_k < self._vocab
        if not limits_k and sampling.top_p >= 1:
            return lambda number: self._draw_from_all(number, sampling.temperature)

        def pick(number: float) -> int:
            ids, weights = self._candidates(sampling)
            return int(ids[_invert(np.cumsum(weights), number)])

        return pick

    def _draw_from_all(self, number: float, temperature: float) -> int:
        weights = self._weights(temperature)
        return _invert(np.cumsum(weights, dtype=np.float64, out=self._sums), number)

    def _weights(self, temperature: float) -> NDArray[np.float32]:
        """Softmax without its division, of the whole vocabulary, in scratch memory."""
        weights = self._scratch[: self._vocab]
        np.subtract(self._logits, self._logits.max(), out=weights)
        np.divide(weights, temperature, out=weights)
        return np.exp(weights, out=weights)

    def _candidates(self, sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if 0 < sampling.top_k < self._vocab:
            ids = self._largest(sampling.top_k)
            weights = self._weights_of(ids, sampling.temperature)
            kept = (
                _nucleus(weights, sampling.top_p * float(weights.sum())) if sampling.top_p < 1 else len(ids)
            )
            return ids[: kept or 1], weights[: kept or 1]
        return self._nucleus_of_all(sampling.temperature, sampling.top_p)

    def _nucleus_of_all(
        self, temperature: float, top_p: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The smallest set of the most probable tokens whose probabilities reach ``top_p``."""
        wanted = top_p * float(self._weights(temperature).sum(dtype=np.float64))
        count = min(_NUCLEUS_STEP, self._vocab)
        while True:
            ids = self._largest(count)
            weights = self._weights_of(ids, temperature)
            kept = _nucleus(weights, wanted)
            if kept is not None or count == self._vocab:
                return ids[: kept or count], weights[: kept or count]
            count = min(count * 8, self._vocab)

    def _weights_of(self, ids: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
        """The same float32 arithmetic as ``_weights``, for a few tokens, ready to be summed."""
        chosen = self._logits[ids]
        scaled: NDArray[Any] = (chosen - chosen[0]) / np.float32(temperature)
        weights: NDArray[np.float64] = np.exp(scaled).astype(np.float64)
        return weights

    def _largest(self, count: int) -> NDArray[np.int64]:
        """The ``count`` largest logits' ids, largest first, equal ones by id."""
        found = np.flatnonzero(self._logits >= self._threshold(count))
        order = np.lexsort((found, -self._logits[found]))
        return found[order[:count]]

    def _threshold(self, count: int) -> np.float32:
        """A value that the ``count`` largest logits reach, and few others.

        The count-th largest of the blocks' maxima is such a value: ``count`` blocks hold one that large.
        """
        blocks = len(self._block_maxima)
        if count <= blocks:
            self._padded.reshape(blocks, _BLOCK).max(axis=1, out=self._block_maxima)
            self._block_maxima.partition(blocks - count)
            return np.float32(self._block_maxima[blocks - count])
        scratch = self._scratch[: self._vocab]
        scratch[:] = self._logits
        scratch.partition(self._vocab - count)
        return np.float32(scratch[self._vocab - count])


def _nucleus(weights: NDArray[np.float64], wanted: float) -> int | None:
    """How many of the sorted ``weights`` it takes to reach ``wanted``; None when all of them do not."""
    sums = np.cumsum(weights)
    reached = int(np.searchsorted(sums, wanted))
    return reached + 1 if reached < len(sums) else None


def _invert(sums: NDArray[np.float64], number: float) -> int:
    """The index at which the running ``sums`` pass ``number`` of their total."""
    index = int(np.searchsorted(sums, number * sums[-1], side="right"))
    return min(index, len(sums) - 1)
