from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import ThermalSettings
from worker.governor import State, decide, observe, unread

LIMITS = ThermalSettings()
COOL = State(is_hot=False, missing=0)
HOT = State(is_hot=True, missing=0)


@pytest.mark.parametrize(
    ("state", "temperature_c", "held_for"),
    [
        pytest.param(COOL, 24.0, None, id="a cool card works"),
        pytest.param(COOL, 79.9, None, id="just below the limit it still works"),
        pytest.param(COOL, 80.0, "thermal", id="at the limit it rests"),
        pytest.param(COOL, 112.0, "thermal", id="far above it rests"),
        pytest.param(HOT, 79.0, "thermal", id="below the limit it goes on resting"),
        pytest.param(HOT, 70.1, "thermal", id="just above the resume limit it goes on resting"),
        pytest.param(HOT, 70.0, None, id="at the resume limit it works"),
        pytest.param(COOL, 71.0, None, id="a card that was not hot does not rest between the limits"),
        pytest.param(State(False, 3), 40.0, None, id="one reading ends blindness"),
        pytest.param(State(False, 3), 85.0, "thermal", id="a first reading above the limit holds"),
        pytest.param(State(True, 3), 75.0, "thermal", id="heat is remembered through blindness"),
        pytest.param(COOL, None, None, id="one missing reading is forgiven"),
        pytest.param(State(False, 1), None, None, id="two missing readings are forgiven"),
        pytest.param(State(False, 2), None, "telemetry", id="the third missing reading holds"),
        pytest.param(State(False, 2), math.nan, "telemetry", id="a reading that is no number is missing"),
        pytest.param(HOT, None, "thermal", id="a hot card that falls silent goes on resting"),
    ],
)
def test_decision_after_one_poll(state: State, temperature_c: float | None, held_for: str | None) -> None:
    after = observe(state, temperature_c, is_loading=False, limits=LIMITS)
    hold = decide(after, temperature_c, LIMITS)
    assert (hold.reason if hold else None) == held_for


def test_nothing_runs_before_the_first_reading() -> None:
    hold = decide(unread(LIMITS), None, LIMITS)
    assert hold is not None
    assert hold.reason == "telemetry"


def test_a_monitor_that_follows_a_hot_one_keeps_its_hysteresis() -> None:
    state = observe(unread(LIMITS, is_hot=True), 75.0, is_loading=False, limits=LIMITS)
    assert decide(state, 75.0, LIMITS) is not None


def test_readings_missing_while_a_model_loads_do_not_count() -> None:
    state = COOL
    for _ in range(50):
        state = observe(state, None, is_loading=True, limits=LIMITS)
    assert decide(state, None, LIMITS) is None


def test_an_operator_may_choose_to_work_blind() -> None:
    limits = ThermalSettings(hold_without_readings=False)
    assert decide(unread(limits), None, limits) is None
    state = HOT
    for _ in range(limits.missing_polls):
        state = observe(state, None, is_loading=False, limits=limits)
    assert decide(state, None, limits) is None


def test_the_message_names_both_temperatures() -> None:
    hold = decide(HOT, 81.26, LIMITS)
    assert hold is not None
    assert hold.message == "the card is at 81.3 °C; work goes on at 70 °C"


readings = st.lists(st.one_of(st.none(), st.floats(0, 120)), max_size=60)


@given(readings)
def test_at_or_above_the_hold_temperature_it_never_works(temperatures: list[float | None]) -> None:
    state = unread(LIMITS)
    for temperature_c in temperatures:
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        if temperature_c is not None and temperature_c >= LIMITS.hold_c:
            assert decide(state, temperature_c, LIMITS) is not None


@given(readings)
def test_at_or_below_the_resume_temperature_it_always_works(temperatures: list[float | None]) -> None:
    state = unread(LIMITS)
    for temperature_c in temperatures:
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        if temperature_c is not None and temperature_c <= LIMITS.resume_c:
            assert decide(state, temperature_c, LIMITS) is None


@given(readings)
def test_between_the_limits_a_decision_only_changes_through_a_limit(temperatures: list[float | None]) -> None:
    state, was_held = observe(unread(LIMITS), 20.0, is_loading=False, limits=LIMITS), False
    for temperature_c in (t for t in temperatures if t is not None):
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        is_held = decide(state, temperature_c, LIMITS) is not None
        if LIMITS.resume_c < temperature_c < LIMITS.hold_c:
            assert is_held == was_held
        was_held = is_held


@given(st.integers(1, 10), readings)
def test_blindness_holds_after_exactly_the_set_number_of_polls(
    polls: int, before: list[float | None]
) -> None:
    limits = ThermalSettings(missing_polls=polls)
    state = unread(limits)
    for temperature_c in [*before, 30.0]:
        state = observe(state, temperature_c, is_loading=False, limits=limits)
    for count in range(1, polls + 3):
        state = observe(state, None, is_loading=False, limits=limits)
        assert (decide(state, None, limits) is not None) == (count >= polls)
