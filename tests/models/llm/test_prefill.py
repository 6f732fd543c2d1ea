"""How a prompt is cut into chunks, and which group each goes through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.llm.geometry import PrefillGroup
from models.llm.prefill import plan

LADDER = (PrefillGroup(0, 128, 1), PrefillGroup(512, 128, 2), PrefillGroup(1024, 128, 3))
ladders = st.lists(st.tuples(st.integers(0, 60), st.integers(2, 16)), max_size=5).map(
    lambda pairs: sorted(PrefillGroup(history, chunk, at) for at, (history, chunk) in enumerate(pairs, 1))
)


def test_the_smallest_group_that_holds_the_history_is_taken() -> None:
    taken = [(chunk.start, chunk.count, chunk.group) for chunk in plan(LADDER, 0, 300)]
    assert taken == [(0, 128, LADDER[0]), (128, 128, LADDER[1]), (256, 44, LADDER[1])]


def test_a_history_that_is_no_whole_chunk_is_as_good_as_any() -> None:
    assert next(iter(plan(LADDER, 33, 40))).group == LADDER[1]


def test_a_prompt_of_exactly_one_chunk_runs_no_empty_one() -> None:
    assert len(list(plan(LADDER, 0, 128))) == 1


def test_beyond_the_largest_history_tokens_go_one_by_one() -> None:
    chunks = list(plan(LADDER, 1024, 1155))
    assert [(chunk.start, chunk.count) for chunk in chunks] == [(1024, 128), (1152, 1), (1153, 1), (1154, 1)]
    assert chunks[-1].group is None


@given(ladders, st.integers(0, 80), st.integers(0, 80))
def test_every_position_is_computed_once_and_behind_room_for_its_history(
    groups: list[PrefillGroup], start: int, length: int
) -> None:
    chunks = list(plan(groups, start, start + length))
    positions = [at for chunk in chunks for at in range(chunk.start, chunk.start + chunk.count)]
    assert positions == list(range(start, start + length))
    for chunk in chunks:
        fitting = [group for group in groups if group.history >= chunk.start]
        assert chunk.group == (min(fitting) if fitting else None)
        assert chunk.count <= (chunk.group.chunk if chunk.group else 1)
