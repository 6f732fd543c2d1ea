"""The filters of a sampler, over the levels of a distribution: top-k, top-p, min-p, typical, and the draw.

A level is a value that some tokens share. Of a level that it can only keep in part, every filter keeps the
tokens with the lowest ids; so a count per level says exactly which are left, and no filter needs their ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Levels:
    """Values in descending order (of two equal ones the lower ids first) and how many tokens each has.

    ``weights`` are proportional to the probability of ONE token of the level. ``ids`` is there when every
    level is one token, and known; else the tokens of a level are those of its value.
    """

    values: Values
    counts: Counts
    weights: Values
    ids: Counts | None = None

    def first(self, length: int, last_count: int | None = None) -> Levels:
        """The first ``length`` levels; of the last one only ``last_count`` tokens."""
        counts = self.counts[:length]
        if last_count is not None:
            counts = counts.copy()
            counts[-1] = last_count
        ids = None if self.ids is None else self.ids[:length]
        return Levels(self.values[:length], counts, self.weights[:length], ids)


Filter = Callable[[Levels], Levels]


def levels(values: Values, counts: Counts, temperature: float, ids: Counts | None = None) -> Levels:
    """The softmax of ``values / temperature``, without its division. ``values`` descending, at least one."""
    weights = np.subtract(values, values[0])
    weights /= temperature
    return Levels(values, counts, np.exp(weights, out=weights), ids)


def top_k(k: int) -> Filter:
    """The ``k`` most probable tokens."""

    def keep(these: Levels) -> Levels:
        sums = np.cumsum(these.counts)
        if sums[-1] <= k:
            return these
        last = int(np.searchsorted(sums, k))
        return these.first(last + 1, k - int(sums[last] - these.counts[last]))

    return keep


def top_p(p: float) -> Filter:
    """The fewest most probable tokens whose probabilities reach ``p``."""

    def keep(these: Levels) -> Levels:
        mass = these.weights * these.counts
        sums = np.cumsum(mass)
        wanted = p * sums[-1]
        last = min(int(np.searchsorted(sums, wanted)), len(sums) - 1)
        before = float(sums[last - 1]) if last else 0.0
        return these.first(last + 1, _partly(these, last, wanted - before))

    return keep


def min_p(share: float) -> Filter:
    """The tokens at least ``share`` times as probable as the most probable one."""

    def keep(these: Levels) -> Levels:
        bound = share * these.weights[0]
        return these.first(max(1, int(np.count_nonzero(these.weights >= bound))))

    return keep


def typical(p: float) -> Filter:
    """The tokens whose surprise is nearest to the entropy, as many as reach the probability ``p``.

    Source: Meister et al., Locally Typical Sampling, TACL 2023. Equally near: the more probable first.
    """

    def keep(these: Levels) -> Levels:
        mass = these.weights * these.counts
        total = mass.sum()
        alive = these.weights > 0
        surprise = np.full_like(mass, np.inf)
        surprise[alive] = np.log(total) - np.log(these.weights[alive])
        entropy = float(mass[alive] @ surprise[alive]) / total
        order = np.argsort(np.abs(surprise - entropy), kind="stable")
        sums = np.cumsum(mass[order])
        last = min(int(np.searchsorted(sums, p * sums[-1])), len(sums) - 1)
        before = float(sums[last - 1]) if last else 0.0
        counts = these.counts.copy()
        counts[order[last]] = _partly(these, int(order[last]), p * float(sums[-1]) - before)
        kept = np.sort(order[: last + 1])
        ids = None if these.ids is None else these.ids[kept]
        return Levels(these.values[kept], counts[kept], these.weights[kept], ids)

    return keep


def chain(filters: tuple[Filter, ...]) -> Filter:
    """One function for all of them, each seeing what the one before it left."""

    def keep(these: Levels) -> Levels:
        for one in filters:
            these = one(these)
        return these

    return keep


def draw(these: Levels, number: float) -> tuple[int, int]:
    """Level and rank (by id) of the token at which the running probability passes ``number`` in [0, 1)."""
    sums = np.cumsum(these.weights * these.counts)
    target = number * float(sums[-1])
    # Rounding may carry the target onto the total: the last level that adds anything is then the one meant.
    level = min(int(np.searchsorted(sums, target, side="right")), int(np.searchsorted(sums, sums[-1])))
    before = float(sums[level - 1]) if level else 0.0
    rank = int((target - before) / float(these.weights[level]))
    return level, min(max(rank, 0), int(these.counts[level]) - 1)


def _partly(these: Levels, level: int, wanted: float) -> int:
    """How many tokens of ``level`` it takes to reach ``wanted``; at least one."""
    count, weight = int(these.counts[level]), float(these.weights[level])
    if count == 1 or weight == 0.0:
        return count
    return min(max(int(np.ceil(wanted / weight)), 1), count)
