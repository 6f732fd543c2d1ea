"""How tokens are cut into pieces: the fastest way that the groups allow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.geometry import PrefillGroup
from models.llm.plan import MeasuredCosts, plan

LADDER = (PrefillGroup(0, 128, 1), PrefillGroup(512, 128, 2), PrefillGroup(1024, 128, 3))
ladders = st.lists(st.tuples(st.integers(0, 30), st.integers(2, 12)), max_size=4).map(
    lambda pairs: sorted(PrefillGroup(history, chunk, at) for at, (history, chunk) in enumerate(pairs, 1))
)
seconds = st.integers(1, 20).map(float)


class Fixed:
    """A step takes 1; groups take what is said, else 4."""

    def __init__(self, groups: Mapping[int, float] | None = None) -> None:
        self._groups = groups or {}

    def step_s(self) -> float:
        return 1.0

    def group_s(self, group: PrefillGroup) -> float:
        return self._groups.get(group.index, 4.0)


def pieces(start: int, end: int, groups: Mapping[int, float] | None = None) -> list[tuple[int, int, int]]:
    """(tokens, group, times) of neighbours that are alike; group 0 is single steps."""
    found: list[tuple[int, int, int]] = []
    for chunk in plan(LADDER, start, end, Fixed(groups)):
        index = chunk.group.index if chunk.group else 0
        if found and found[-1][:2] == (chunk.count, index):
            found[-1] = (chunk.count, index, found[-1][2] + 1)
        else:
            found.append((chunk.count, index, 1))
    return found


@pytest.mark.parametrize(
    ("start", "end", "groups", "wanted"),
    [
        (0, 3, {}, [(1, 0, 3)]),  # three steps are faster than a chunk
        (0, 4, {}, [(4, 1, 1)]),  # as fast: fewer runs
        (0, 128, {}, [(128, 1, 1)]),  # no empty chunk behind
        (0, 131, {}, [(128, 1, 1), (1, 0, 3)]),
        (0, 132, {}, [(128, 1, 1), (4, 2, 1)]),
        (0, 300, {}, [(128, 1, 1), (128, 2, 1), (44, 2, 1)]),
        (33, 300, {}, [(128, 2, 2), (11, 2, 1)]),  # any row may be the first
        (500, 700, {}, [(128, 2, 1), (72, 3, 1)]),
        (500, 700, {3: 90.0}, [(12, 2, 1), (128, 2, 1), (1, 0, 60)]),  # up to 512, where the cheap one ends
        (1000, 1160, {}, [(24, 3, 1), (128, 3, 1), (1, 0, 8)]),  # up to 1024, where the last one ends
        (1024, 1155, {}, [(128, 3, 1), (1, 0, 3)]),
        (1100, 1103, {}, [(1, 0, 3)]),  # beyond every group
        (0, 300, {1: 500.0, 2: 500.0, 3: 500.0}, [(1, 0, 300)]),  # chunks that do not pay
        (0, 128, {1: 9.0, 2: 5.0, 3: 6.0}, [(128, 2, 1)]),  # more room may be faster, if it was measured so
    ],
)
def test_the_fastest_way_is_taken(
    start: int, end: int, groups: Mapping[int, float], wanted: list[tuple[int, int, int]]
) -> None:
    assert pieces(start, end, groups) == wanted


@given(ladders, st.integers(0, 40), st.integers(1, 40), st.lists(seconds, min_size=4, max_size=4))
def test_no_other_way_is_faster_and_every_position_is_computed_once(
    groups: list[PrefillGroup], start: int, length: int, costs: list[float]
) -> None:
    end = start + length
    known = Fixed({group.index: costs[group.index - 1] for group in groups})
    chunks = plan(groups, start, end, known)
    positions = [at for chunk in chunks for at in range(chunk.start, chunk.start + chunk.count)]
    assert positions == list(range(start, end))
    for chunk in chunks:
        assert chunk.count <= (chunk.group.chunk if chunk.group else 1)
        assert chunk.group is None or chunk.group.history >= chunk.start

    @cache
    def least(at: int) -> float:
        """Every way there is."""
        if at == end:
            return 0.0
        ways = [1.0 + least(at + 1)]
        for group in groups:
            if group.history >= at:
                counts = range(1, min(group.chunk, end - at) + 1)
                ways += [known.group_s(group) + least(at + count) for count in counts]
        return min(ways)

    assert sum(known.group_s(chunk.group) if chunk.group else 1.0 for chunk in chunks) == least(start)


def test_a_plan_over_the_longest_ladder_is_made_in_no_time() -> None:
    groups = tuple(PrefillGroup(history, 128, at) for at, history in enumerate(range(0, 2560, 128), 1))
    assert len(plan(groups, 1, 2559, Fixed())) == 20


def test_a_chunk_that_never_ran_is_worth_a_try_and_its_first_run_does_not_count() -> None:
    costs = MeasuredCosts(step_s=0.1)
    group = LADDER[0]
    assert costs.group_s(group) == pytest.approx(0.4)
    costs.took(group, 60.0)
    assert costs.group_s(group) == pytest.approx(0.4)
    costs.took(group, 0.2)
    assert costs.group_s(group) == 0.2
    assert costs.group_s(LADDER[1]) == pytest.approx(0.4)


def test_one_disturbed_run_does_not_change_what_is_believed() -> None:
    costs = MeasuredCosts(step_s=0.1)
    for _ in range(3):
        costs.took(None, 0.1)
        costs.took(LADDER[0], 0.3)
    costs.took(None, 30.0)
    costs.took(LADDER[0], 30.0)
    assert costs.step_s() == 0.1
    assert costs.group_s(LADDER[0]) == 0.3


def test_costs_follow_a_card_that_has_become_slower() -> None:
    costs = MeasuredCosts(step_s=0.1)
    for _ in range(8):
        costs.took(None, 0.4)
    assert costs.step_s() == 0.4
