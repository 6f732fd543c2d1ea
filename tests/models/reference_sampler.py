"""The sampler as one would write it down: every token, float64, a full sort. Slow, and nothing is shared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from models.llm.sampler import SamplerOptions

Distribution = dict[int, float]
_NEAR = 1e-9


class AmbiguousError(Exception):
    """A filter's border lies so near to a running sum that rounding decides: no test can say who is right."""


def distribution(
    options: SamplerOptions,
    values: Sequence[float],
    prompt: Sequence[int] = (),
    answer: Sequence[int] = (),
    allowed: Sequence[bool] | None = None,
) -> Distribution:
    """Token → probability, for the tokens that may be drawn; most probable first, equal ones by id.

    Raises:
        AmbiguousError: see there.
    """
    adjusted = _adjusted(options, values, prompt, answer)
    ids = [i for i in range(len(values)) if allowed is None or allowed[i]]
    ids.sort(key=lambda i: (-adjusted[i], i))
    if options.temperature == 0:
        return {ids[0]: 1.0}
    best = adjusted[ids[0]]
    weights = {i: math.exp((adjusted[i] - best) / options.temperature) for i in ids}
    if options.top_k:
        ids = ids[: options.top_k]
    if options.top_p < 1:
        ids = _reaching(ids, weights, options.top_p)
    if options.min_p > 0:
        ids = _at_least(ids, weights, options.min_p)
    if options.typical_p < 1:
        ids = _typical(ids, weights, options.typical_p)
    total = math.fsum(weights[i] for i in ids)
    return {i: weights[i] / total for i in ids}


def _adjusted(
    options: SamplerOptions, values: Sequence[float], prompt: Sequence[int], answer: Sequence[int]
) -> list[float]:
    adjusted = [value + options.logit_bias.get(i, 0.0) for i, value in enumerate(values)]
    everything = [*prompt, *answer]
    window = options.repetition_window
    for i in set(everything if window is None else everything[max(0, len(everything) - window) :]):
        penalty = options.repetition_penalty
        adjusted[i] = adjusted[i] * penalty if adjusted[i] < 0 else adjusted[i] / penalty
    window = options.answer_window
    seen = list(answer if window is None else answer[max(0, len(answer) - window) :])
    for i in set(seen):
        adjusted[i] -= options.frequency_penalty * seen.count(i) + options.presence_penalty
    return adjusted


def _reaching(ids: list[int], weights: Distribution, share: float) -> list[int]:
    """The first of ``ids`` whose weights make up ``share`` of all."""
    wanted = share * math.fsum(weights[i] for i in ids)
    kept, reached = 0, 0.0
    while reached < wanted and kept < len(ids):
        reached = math.fsum((reached, weights[ids[kept]]))
        kept += 1
        if abs(reached - wanted) < _NEAR * wanted:
            raise AmbiguousError
    return ids[:kept]


def _at_least(ids: list[int], weights: Distribution, share: float) -> list[int]:
    bound = share * weights[ids[0]]
    if any(abs(weights[i] - bound) < _NEAR * bound for i in ids[1:]):
        raise AmbiguousError
    return [i for i in ids if i == ids[0] or weights[i] >= bound]


def _typical(ids: list[int], weights: Distribution, share: float) -> list[int]:
    total = math.fsum(weights[i] for i in ids)
    surprise = {i: -math.log(weights[i] / total) if weights[i] else math.inf for i in ids}
    entropy = math.fsum(weights[i] / total * surprise[i] for i in ids if weights[i])
    rank = {i: place for place, i in enumerate(ids)}
    nearest = sorted(ids, key=lambda i: (abs(surprise[i] - entropy), rank[i]))
    for one, other in itertools.pairwise(nearest):
        gap = abs(surprise[other] - entropy) - abs(surprise[one] - entropy)
        if gap < _NEAR and weights[one] != weights[other]:
            raise AmbiguousError
    kept = set(_reaching(nearest, weights, share))
    return [i for i in ids if i in kept]
