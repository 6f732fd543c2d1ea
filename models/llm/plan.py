"""How tokens go through the card: by which shape groups or one by one, whichever takes least time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from models.llm.geometry import PrefillGroup


@dataclass(frozen=True, slots=True)
class Chunk:
    """``count`` tokens from ``start`` on, in ``group``; without a group, one token by a decode step."""

    start: int
    count: int
    group: PrefillGroup | None


class Costs(Protocol):
    """Seconds of one run."""

    def step_s(self) -> float: ...

    def group_s(self, group: PrefillGroup) -> float:
        """A group takes the same time however few of its tokens are real."""
        ...


def plan(groups: Sequence[PrefillGroup], start: int, end: int, costs: Costs) -> list[Chunk]:
    """The fastest way from position ``start`` to ``end``; of equally fast ones, the one with fewer runs.

    Chunks come first and single steps last: exchanging them costs nothing and only widens the choice of
    groups. A chunk is full, or ends at ``end``, or where the history of another group does.
    """
    best: dict[int, tuple[float, int]] = {start: (0.0, 0)}
    came: dict[int, Chunk] = {}
    borders = {group.history for group in groups}
    for at in _ascending(start, end, groups, borders):
        seconds, runs = best[at]
        for group in groups:
            if group.history < at:
                continue
            cost = (seconds + costs.group_s(group), runs + 1)
            for stop in _stops(at, end, group.chunk, borders):
                if stop not in best or cost < best[stop]:
                    best[stop] = cost
                    came[stop] = Chunk(at, stop - at, group)
    step_s = costs.step_s()
    ways = [(seconds + (end - at) * step_s, runs + end - at, at) for at, (seconds, runs) in best.items()]
    at = min(ways)[2]
    chunks: deque[Chunk] = deque(Chunk(single, 1, None) for single in range(at, end))
    while at != start:
        chunks.appendleft(came[at])
        at = came[at].start
    return list(chunks)


def _ascending(start: int, end: int, groups: Sequence[PrefillGroup], borders: set[int]) -> list[int]:
    """Every position that chunks can lead to, in order; the last border of a group is the end of chunks."""
    found, open_ = {start}, [start]
    while open_:
        at = open_.pop()
        for chunk in {group.chunk for group in groups if group.history >= at}:
            fresh = _stops(at, end, chunk, borders) - found
            found |= fresh
            open_ += fresh
    return sorted(found - {end})


def _stops(at: int, end: int, chunk: int, borders: set[int]) -> set[int]:
    full = min(at + chunk, end)
    return {full, *(border for border in borders if at < border < full)}


class MeasuredCosts:
    """Costs as they were measured on this card; until then, a group is taken for as long as a few steps.

    The first run of a group binds and warms what later ones find, so it does not count. Of the others the
    median of the last few does: a single run may have been disturbed.
    """

    UNKNOWN_STEPS = 4
    """What a chunk that never ran is taken for. Low enough to be tried by every prompt that is longer."""
    _REMEMBERED = 7

    def __init__(self, step_s: float) -> None:
        self._steps = deque([step_s], self._REMEMBERED)
        self._groups: dict[int, deque[float]] = {}

    def step_s(self) -> float:
        return median(self._steps)

    def group_s(self, group: PrefillGroup) -> float:
        known = self._groups.get(group.index)
        return median(known) if known else self.UNKNOWN_STEPS * self.step_s()

    def took(self, group: PrefillGroup | None, seconds: float) -> None:
        """One run of ``group``, or one step, has taken so long."""
        if group is None:
            self._steps.append(seconds)
        elif group.index in self._groups:
            self._groups[group.index].append(seconds)
        else:
            self._groups[group.index] = deque(maxlen=self._REMEMBERED)
