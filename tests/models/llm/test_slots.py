"""Which slot a conversation gets, and what is believed of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.llm.slots import REPHRASED, Place, Slots, common

SYSTEM = list(range(100, 140))
ONE, TWO, THREE = ([*SYSTEM, first, *range(20)] for first in (1, 2, 3))


def slots(count: int) -> Slots:
    made = Slots()
    for _ in range(count):
        made.add()
    return made


def run(made: Slots, ids: list[int], answer: list[int] | None = None) -> Place:
    """What a job does: take a place, compute what is missing, go on."""
    place = made.take(ids, len(ids))
    made.truncate(place.slot, 0 if place.source is not None else place.kept)
    if place.source is not None:
        made.extend(place.slot, ids[: place.kept])
    made.extend(place.slot, ids[place.kept :])
    made.extend(place.slot, answer or [])
    return place


def test_a_conversation_that_goes_on_keeps_its_slot_and_all_its_rows() -> None:
    made = slots(3)
    run(made, ONE, answer=[7, 8])
    assert made.take([*ONE, 7, 8, 9, 10], 99) == Place(0, kept=len(ONE) + 2)


def test_the_last_token_is_always_computed_for_its_logits() -> None:
    made = slots(1)
    run(made, ONE, answer=[7, 8])
    assert made.take(ONE, 99) == Place(0, kept=len(ONE) - 1)


def test_a_template_that_drops_thoughts_from_history_does_not_cost_a_slot() -> None:
    made = slots(3)
    run(made, [*ONE, 50, 51, 52, 53], answer=[60, 61, 62])
    assert made.take([*ONE, 62, 70, 71], 99) == Place(0, kept=len(ONE))


def test_another_conversation_behind_the_same_system_prompt_gets_a_slot_and_a_copy() -> None:
    made = slots(2)
    run(made, ONE)
    assert run(made, TWO) == Place(1, kept=len(SYSTEM), source=0)
    assert made.ids(0) == ONE
    assert made.ids(1) == TWO


def test_without_a_free_slot_the_one_not_used_for_longest_goes() -> None:
    made = slots(2)
    run(made, ONE)
    run(made, TWO)
    run(made, [*ONE, 5])
    assert run(made, THREE) == Place(1, kept=len(SYSTEM), source=0)
    assert made.ids(0) == [*ONE, 5]


def test_a_single_slot_is_overwritten_from_where_conversations_part() -> None:
    made = slots(1)
    run(made, ONE)
    assert run(made, TWO) == Place(0, kept=len(SYSTEM))
    assert made.ids(0) == TWO


def test_of_several_slots_the_one_that_shares_most_is_continued() -> None:
    made = slots(3)
    run(made, ONE)
    run(made, TWO)
    assert made.take([*ONE, 9], 99) == Place(0, kept=len(ONE))
    assert made.take([*TWO, 9], 99) == Place(1, kept=len(TWO))


def test_one_more_slot_is_wanted_only_by_a_stranger_when_all_are_in_use() -> None:
    made = slots(1)
    assert not made.wants_another(ONE)
    run(made, ONE)
    assert not made.wants_another([*ONE, 1])
    assert made.wants_another(TWO)
    made.add()
    assert not made.wants_another(TWO)


def test_what_was_forgotten_is_free() -> None:
    made = slots(2)
    run(made, ONE)
    run(made, TWO)
    made.truncate(1, 0)
    assert made.take(THREE, 99).slot == 1


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)],
)
def test_common_prefixes(first: list[int], second: list[int], wanted: int) -> None:
    assert common(first, second) == wanted


class Believing(RuleBasedStateMachine):
    """Any jobs, cut off anywhere, in the order in which the cache tells the slots: what a slot believes is
    always a prefix of the rows that were computed for it last."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Slots()
        self.rows: list[list[int | None]] = []

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.add()

    @rule()
    def add(self) -> None:
        self.made.add()
        self.rows.append([None] * 40)

    @rule(
        ids=st.lists(st.integers(0, 1), min_size=1, max_size=30),
        pieces=st.lists(st.integers(1, 6), max_size=8),
        is_torn=st.booleans(),
    )
    def job(self, ids: list[int], pieces: list[int], is_torn: bool) -> None:
        """Rows are written piece by piece; the last piece of a torn job raises half-way."""
        place = self.made.take(ids, len(ids))
        assert place.kept < len(ids)
        rows = self.rows[place.slot]
        self.made.truncate(place.slot, 0 if place.source is not None else place.kept)
        if place.source is not None:
            assert self.made.ids(place.source)[: place.kept] == ids[: place.kept]
            rows[: place.kept] = self.rows[place.source][: place.kept]
            self.made.extend(place.slot, ids[: place.kept])
        at = place.kept
        for index, count in enumerate(pieces):
            tokens = ids[at : at + count]
            self.made.truncate(place.slot, at)
            rows[at : at + len(tokens)] = [None] * len(tokens)
            if is_torn and index == len(pieces) - 1:
                return
            rows[at : at + len(tokens)] = tokens
            self.made.extend(place.slot, tokens)
            at += len(tokens)

    @rule(at=st.integers(0, 10))
    def trim(self, at: int) -> None:
        at %= len(self.rows)
        self.made.keep_only(at)
        self.rows = [self.rows[at]]

    @invariant()
    def believes_a_prefix_of_what_was_computed(self) -> None:
        for slot, rows in enumerate(self.rows):
            believed = list(self.made.ids(slot))
            assert rows[: len(believed)] == believed


TestBelieving = Believing.TestCase
TestBelieving.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_the_tail_that_templates_rephrase_is_shorter_than_the_end_of_a_turn() -> None:
    # "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n": another question differs before all of it.
    assert REPHRASED < 9
