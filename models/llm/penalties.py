"""What moves single logits before anything is filtered: logit bias, repetition, frequency and presence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.llm.spectrum import Bits, Ids, Spectrum


class History:
    """The tokens so far, prompt and answer, as the penalties want them; appended to as the answer grows."""

    def __init__(self, prompt: Iterable[int], room: int = 4096) -> None:
        """``room``: how many tokens it holds before it has to grow (it doubles)."""
        ids = np.fromiter(prompt, np.int64)
        self.prompt_length = self._length = len(ids)
        self._ids = np.empty(max(room, 2 * len(ids)), np.int64)
        self._ids[: len(ids)] = ids

    def __len__(self) -> int:
        return self._length

    def append(self, token_id: int) -> None:
        if self._length == len(self._ids):
            self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
        self._ids[self._length] = token_id
        self._length += 1

    def recent(self, window: int | None) -> Ids:
        """The last ``window`` tokens of prompt and answer; None: all. A view, good until ``append``."""
        return self._ids[0 if window is None else max(0, self._length - window) : self._length]

    def answer(self, window: int | None) -> Ids:
        """The last ``window`` tokens of the answer; None: all of them. A view, good until ``append``."""
        start = self.prompt_length if window is None else max(self.prompt_length, self._length - window)
        return self._ids[start : self._length]


@dataclass(frozen=True, slots=True)
class Penalties:
    """The options that move single logits; see ``sampler.SamplerOptions``."""

    logit_bias: Mapping[int, float]
    repetition: float
    repetition_window: int | None
    frequency: float
    presence: float
    answer_window: int | None

    @property
    def need_history(self) -> bool:
        return self.repetition != 1.0 or self.frequency != 0.0 or self.presence != 0.0

    @property
    def are_none(self) -> bool:
        return not self.logit_bias and not self.need_history


class Adjustment:
    """The penalties as one function of logits and history. Only the tokens concerned are touched."""

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties
        self._bias_ids = np.array(sorted(penalties.logit_bias), np.int64)
        self._bias = np.array([penalties.logit_bias[int(i)] for i in self._bias_ids], np.float64)
        self._repeats = penalties.repetition != 1.0
        self._counts = penalties.frequency != 0.0 or penalties.presence != 0.0

    def __call__(
        self, spectrum: Spectrum, bits: Bits, history: History | None
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The tokens concerned, ascending, and what their logits become, in float64.

        Raises:
            ValueError: a penalty needs the history and there is none, or it leaves the vocabulary.
        """
        penalties = self._penalties
        if history is None:
            if penalties.need_history:
                raise ValueError("repetition, frequency and presence penalties need the history")
            return self._bias_ids, spectrum.values_of(bits, self._bias_ids) + self._bias
        recent = _distinct(history.recent(penalties.repetition_window)) if self._repeats else _NONE
        answer = np.sort(history.answer(penalties.answer_window)) if self._counts else _NONE
        ids = self._union(recent, answer)
        if len(ids) and not 0 <= int(ids[0]) <= int(ids[-1]) < spectrum.vocab:
            raise ValueError("the history names a token outside the vocabulary")
        values = spectrum.values_of(bits, ids)
        if len(self._bias_ids):
            values[np.searchsorted(ids, self._bias_ids)] += self._bias
        if self._repeats:
            where = slice(None) if recent is ids else np.searchsorted(ids, recent)
            values[where] = _repeated(values[where], penalties.repetition)
        if self._counts:
            times = np.bincount(np.searchsorted(ids, answer), minlength=len(ids))
            values -= penalties.frequency * times + penalties.presence * (times > 0)
        return ids, values

    def _union(self, recent: Ids, answer: Ids) -> Ids:
        if not len(answer) and not len(self._bias_ids):
            return recent
        return _distinct(np.concatenate((recent, answer, self._bias_ids)))


_NONE: Ids = np.empty(0, np.int64)


def _distinct(ids: Ids) -> Ids:
    """``np.unique``, at a quarter of its cost for a few hundred ids."""
    ordered = np.sort(ids)
    if len(ordered) < 2:
        return ordered
    is_new = np.empty(len(ordered), np.bool_)
    is_new[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def _repeated(values: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Less likely whatever the sign. Source: Keskar et al., CTRL, 2019, §4.1, the sign minded."""
    return np.where(values < 0, values * penalty, values / penalty)
