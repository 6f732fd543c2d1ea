"""From logits to one token, exactly: every option of the API, as one function made before the loop.

The order is that of transformers' ``generate``, which the figures on model cards are meant for (Qwen3's
"temperature 0.7, top-p 0.8, top-k 20" too); vLLM's differs only in min-p coming before top-k:

    allowed tokens → logit bias → repetition → frequency and presence penalty
    → temperature → top-k → top-p → min-p → typical → one draw

llama.cpp applies the temperature last: its users find that top-p, min-p and typical here see the tempered
distribution; at temperature 1 that is the same. Each filter sees what the one before it left, as a
distribution of its own.

Exactly: in float64, from the bf16 logits as they are. Float32 logits are rounded to bf16 first, as most
packages' last graph does by itself; only their greedy choice is made before. Where a filter's border runs
through equally probable tokens the lowest ids stay, so a set has the size its definition says (transformers
keeps all of a tie at the border of top-k and of typical). Greedy is the first maximum.

Log-probabilities are the model's: the softmax of the raw logits, before anything above, as OpenAI gives them;
they do not depend on the options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.llm import filters
from models.llm.filters import Filter, Levels
from models.llm.penalties import Adjustment, History, Penalties
from models.llm.spectrum import Bits, Ids, Mask, Rounding, Spectrum, are_allowed
from tasks.errors import EngineError

__all__ = ["Choice", "History", "Sampler", "SamplerOptions", "Uniform", "make_sampler"]

_SHORTLIST = 256
"""Up to this many, top-k is found by block maxima; above it, by counting."""
_SEED_MASK = (1 << 64) - 1

Adjusted = tuple[Ids, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How tokens are chosen. Temperature 0 is greedy; every other default means: this is off.

    ``repetition_window``: how many of the last tokens of prompt and answer the repetition penalty sees;
    ``answer_window``: how many of the answer's last the frequency and presence penalties see; None: all.
    ``logprobs``: how many alternatives to tell beside the chosen token's; None: no log-probabilities at all.

    Raises:
        ValueError: an option is out of its range.
    """

    seed: int
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    repetition_window: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    answer_window: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, is_good, range_ in (
            ("temperature", 0 <= self.temperature < math.inf, ">= 0"),
            ("top_k", self.top_k >= 0, ">= 0"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("min_p", 0 <= self.min_p <= 1, "in [0, 1]"),
            ("typical_p", 0 < self.typical_p <= 1, "in (0, 1]"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "> 0"),
            ("repetition_window", self.repetition_window is None or self.repetition_window >= 0, ">= 0"),
            ("frequency_penalty", math.isfinite(self.frequency_penalty), "finite"),
            ("presence_penalty", math.isfinite(self.presence_penalty), "finite"),
            ("answer_window", self.answer_window is None or self.answer_window >= 0, ">= 0"),
            ("logit_bias", all(math.isfinite(bias) for bias in self.logit_bias.values()), "finite"),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, ">= 0"),
        ):
            if not is_good:
                raise ValueError(f"{name} must be {range_}, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One token, and what the model thought of it.

    ``top``: the most probable tokens and their log-probabilities, most probable first, equal ones by id.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Uniform:
    """The number in [0, 1) that belongs to (seed, position): on every machine, in every attempt and order.

    Philox is a function of key and counter, and its raw output, unlike numpy's distributions, is promised to
    stay what it is.
    """

    def __init__(self, seed: int) -> None:
        self._philox = np.random.Philox(key=seed & _SEED_MASK)
        # Setting the state of one generator costs 2 µs; making a new one per token would cost 10.
        self._state: Any = self._philox.state

    def __call__(self, position: int) -> float:
        self._state["state"]["counter"][0] = position
        self._philox.state = self._state
        return (int(self._philox.random_raw()) >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What is left to draw from; and the model's own levels, where they had to be counted anyway."""

    levels: Levels
    model: tuple[NDArray[np.float64], NDArray[np.int64]] | None


def make_sampler(options: SamplerOptions, vocab_size: int) -> Sampler:
    """Raises ValueError when the bias names a token outside the vocabulary."""
    return Sampler(options, vocab_size)


class Sampler:
    """One answer's sampler: ``sampler(logits, position, history) -> Choice``. Not thread-safe.

    Its memory is taken once, here; a call allocates only for the tokens in question.
    """

    def __init__(self, options: SamplerOptions, vocab_size: int) -> None:
        if any(not 0 <= token < vocab_size for token in options.logit_bias):
            raise ValueError("logit_bias names a token outside the vocabulary")
        penalties = Penalties(
            options.logit_bias,
            options.repetition_penalty,
            options.repetition_window,
            options.frequency_penalty,
            options.presence_penalty,
            options.answer_window,
        )
        self._spectrum = Spectrum(vocab_size)
        self._round: Rounding | None = None
        self._adjust = None if penalties.are_none else Adjustment(penalties)
        self._is_greedy = options.temperature == 0 or options.top_k == 1
        self._temperature = options.temperature or 1.0
        self._shortlist = 1 if self._is_greedy else min(options.top_k, vocab_size)
        self._keep = _filter(options, 1 if self._is_greedy else options.top_k)
        self._uniform = Uniform(options.seed)
        self._logprobs = options.logprobs

    def __call__(
        self,
        logits: NDArray[Any],
        position: int,
        history: History | None = None,
        allowed: Mask | None = None,
    ) -> Choice:
        """Choose the token at ``position``. ``logits``: bfloat16[vocab], their bits as uint16[vocab], or
        float32[vocab].

        ``allowed``: the tokens that may follow at all, ``bool[vocab]`` or bits packed little-endian.

        Raises:
            EngineError: a logit is NaN or infinite, or no token is allowed.
            ValueError: shape or type of an argument, or a history the penalties cannot use.
        """
        bits = self._bits_of(logits)
        if self._is_greedy and self._adjust is None and allowed is None:
            is_wide = logits.dtype == np.float32
            return self._told(bits, int(logits.argmax()) if is_wide else self._spectrum.argmax(bits), None)
        adjusted = self._adjusted(bits, history, allowed)
        candidates = self._candidates(bits, adjusted, allowed)
        level, rank = filters.draw(candidates.levels, 0.0 if self._is_greedy else self._uniform(position))
        if candidates.levels.ids is not None:
            token = int(candidates.levels.ids[level])
        else:
            token = self._token_at(bits, float(candidates.levels.values[level]), rank, adjusted, allowed)
        return self._told(bits, token, candidates)

    def distribution(
        self, logits: NDArray[Any], history: History | None = None, allowed: Mask | None = None
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The tokens a call would draw from, most probable first, equal ones by id, and their probabilities.

        For tests and for the curious: unlike a call it may allocate a vocabulary.
        """
        bits = self._bits_of(logits)
        adjusted = self._adjusted(bits, history, allowed)
        these = self._candidates(bits, adjusted, allowed).levels
        ids = these.ids
        if ids is None:
            pieces = (
                np.concatenate(list(self._spectrum.ids_at(bits, float(value), adjusted, allowed)))[:count]
                for value, count in zip(these.values, these.counts, strict=True)
            )
            ids = np.concatenate(list(pieces))
        weights = np.repeat(these.weights, these.counts)
        return ids, weights / weights.sum()

    def _bits_of(self, logits: NDArray[Any]) -> Bits:
        if logits.shape != (self._spectrum.vocab,):
            raise ValueError(f"logits of shape {logits.shape}, expected ({self._spectrum.vocab},)")
        if logits.dtype == np.float32:
            if self._round is None:
                self._round = Rounding(self._spectrum.vocab)
            return self._round(logits)
        if logits.dtype.name not in ("bfloat16", "uint16"):
            raise ValueError(f"logits of type {logits.dtype}, expected bfloat16, its bits, or float32")
        return logits.view(np.uint16)

    def _adjusted(self, bits: Bits, history: History | None, allowed: Mask | None) -> Adjusted | None:
        if allowed is not None:
            _check_mask(allowed, self._spectrum.vocab)
        if self._adjust is None:
            return None
        ids, values = self._adjust(self._spectrum, bits, history)
        if allowed is not None:
            kept = are_allowed(allowed, ids)
            ids, values = ids[kept], values[kept]
        return ids, values

    def _candidates(self, bits: Bits, adjusted: Adjusted | None, allowed: Mask | None) -> _Candidates:
        if 0 < self._shortlist <= _SHORTLIST and allowed is None:
            found = self._spectrum.largest(bits, self._shortlist, adjusted[0] if adjusted else None)
            if found is not None:
                return self._short(bits, found, adjusted)
        self._spectrum.count(bits, allowed)
        values, counts = self._spectrum.levels()
        model = (values, counts) if allowed is None else None
        if adjusted is not None:
            self._spectrum.uncount(bits, adjusted[0])
            values, counts = _merged(*self._spectrum.levels(), adjusted[1])
        if not len(values):
            raise EngineError("the constraint on the answer allows no token here")
        return _Candidates(self._keep(filters.levels(values, counts, self._temperature)), model)

    def _short(self, bits: Bits, found: Ids, adjusted: Adjusted | None) -> _Candidates:
        """Candidates among the few tokens ``found``, which hold the top-k of all that are not adjusted."""
        values = self._spectrum.values_of(bits, found)
        if adjusted is not None:
            # What ``found`` has of k or more is no less than its least; below that nothing gets in.
            near = adjusted[1] >= values.min()
            found = np.concatenate((found, adjusted[0][near]))
            values = np.concatenate((values, adjusted[1][near]))
        order = np.lexsort((found, -values))[: self._shortlist]
        ones = np.ones(len(order), np.int64)
        levels = filters.levels(values[order], ones, self._temperature, found[order])
        return _Candidates(self._keep(levels), None)

    def _token_at(
        self, bits: Bits, value: float, rank: int, adjusted: Adjusted | None, allowed: Mask | None
    ) -> int:
        """The ``rank``-th (from 0) of the tokens of this value, by id."""
        for ids in self._spectrum.ids_at(bits, value, adjusted, allowed):
            if rank < len(ids):
                return int(ids[rank])
            rank -= len(ids)
        raise AssertionError("fewer tokens of a level than were counted. This is a bug.")

    def _told(self, bits: Bits, token: int, candidates: _Candidates | None) -> Choice:
        """The choice, with the model's log-probabilities if they are wanted."""
        if self._logprobs is None:
            return Choice(token)
        if candidates is not None and candidates.model is not None:
            values, counts = candidates.model
        else:
            self._spectrum.count(bits, None)
            values, counts = self._spectrum.levels()
        norm = float(values[0]) + math.log(float(counts @ np.exp(values - values[0])))
        chosen = np.array([token])
        own = float(self._spectrum.values_of(bits, chosen)[0]) - norm
        return Choice(token, own, self._top(bits, values, norm))

    def _top(self, bits: Bits, values: NDArray[np.float64], norm: float) -> tuple[tuple[int, float], ...]:
        wanted = min(self._logprobs or 0, self._spectrum.vocab)
        if not wanted:
            return ()
        found = self._spectrum.largest(bits, wanted)
        if found is not None:
            own = self._spectrum.values_of(bits, found)
            order = np.lexsort((found, -own))[:wanted]
            return tuple((int(found[i]), float(own[i]) - norm) for i in order)
        top: list[tuple[int, float]] = []
        for value in values:
            for ids in self._spectrum.ids_at(bits, float(value), None, None):
                top.extend((int(token), float(value) - norm) for token in ids[: wanted - len(top)])
                if len(top) == wanted:
                    return tuple(top)
        raise AssertionError("fewer tokens than the vocabulary has. This is a bug.")


def _filter(options: SamplerOptions, k: int) -> Filter:
    """The filters that are on, in their order, as one function."""
    return filters.chain(
        tuple(
            one
            for one, is_on in (
                (filters.top_k(k), k > 0),
                (filters.top_p(options.top_p), options.top_p < 1),
                (filters.min_p(options.min_p), options.min_p > 0),
                (filters.typical(options.typical_p), options.typical_p < 1),
            )
            if is_on
        )
    )


def _merged(
    values: NDArray[np.float64], counts: NDArray[np.int64], more: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The levels with single tokens of the values ``more`` put in, each value once."""
    values = np.concatenate((values, np.sort(more)[::-1]))
    counts = np.concatenate((counts, np.ones(len(more), np.int64)))
    order = np.argsort(-values, kind="stable")
    values, counts = values[order], counts[order]
    if not len(values):
        return values, counts
    starts = np.flatnonzero(np.concatenate((np.array([True]), values[1:] != values[:-1])))
    return values[starts], np.add.reduceat(counts, starts)


def _check_mask(allowed: Mask, vocab: int) -> None:
    if allowed.dtype == np.bool_:
        if allowed.shape != (vocab,):
            raise ValueError(f"a mask of shape {allowed.shape}, expected ({vocab},)")
    elif allowed.dtype.kind not in "iu" or allowed.ndim != 1 or allowed.nbytes * 8 < vocab:
        raise ValueError(f"a packed mask needs one integer row of at least {vocab} bits")
