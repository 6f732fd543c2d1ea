from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.groups import ThermalSettings
from worker.governor import Decision, Ease, Hold, Run, State, Unload, decide, trend, unread
from worker.governor import observe as observe_at

LIMITS = ThermalSettings()
COOL = State(is_hot=False, missing=0)
HOT = State(is_hot=True, missing=0)
SCORCHED = State(is_hot=True, missing=0, is_scorched=True)


def observe(state: State, temperature_c: float | None, *, is_loading: bool, limits: ThermalSettings) -> State:
    """One poll after the last reading."""
    at_s = state.recent[-1][0] + limits.poll_s if state.recent else 0.0
    return observe_at(state, temperature_c, at_s=at_s, is_loading=is_loading, limits=limits)


def reason_of(decision: Decision) -> str | None:
    return decision.reason if isinstance(decision, Hold) else None


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
    assert reason_of(decide(after, temperature_c, LIMITS)) == held_for


def test_nothing_runs_before_the_first_reading() -> None:
    hold = decide(unread(LIMITS), None, LIMITS)
    assert reason_of(hold) == "telemetry"


def test_a_monitor_that_follows_a_hot_one_keeps_its_hysteresis() -> None:
    state = observe(unread(LIMITS, is_hot=True), 75.0, is_loading=False, limits=LIMITS)
    assert reason_of(decide(state, 75.0, LIMITS)) == "thermal"


def test_readings_missing_while_a_model_loads_do_not_count() -> None:
    state = COOL
    for _ in range(50):
        state = observe(state, None, is_loading=True, limits=LIMITS)
    assert decide(state, None, LIMITS) == Run()


def test_an_operator_may_choose_to_work_blind() -> None:
    limits = ThermalSettings(hold_without_readings=False)
    assert decide(unread(limits), None, limits) == Run()
    state = HOT
    for _ in range(limits.missing_polls):
        state = observe(state, None, is_loading=False, limits=limits)
    assert decide(state, None, limits) == Run()


def test_the_message_names_both_temperatures() -> None:
    hold = decide(HOT, 81.26, LIMITS)
    assert isinstance(hold, Hold)
    assert hold.message == "the card is at 81.3 °C; work goes on at 70 °C"


readings = st.lists(st.one_of(st.none(), st.floats(0, 120)), max_size=60)


@given(readings)
def test_at_or_above_the_hold_temperature_it_never_works(temperatures: list[float | None]) -> None:
    state = unread(LIMITS)
    for temperature_c in temperatures:
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        if temperature_c is not None and temperature_c >= LIMITS.hold_c:
            assert isinstance(decide(state, temperature_c, LIMITS), Hold)


@given(readings)
def test_at_or_below_the_resume_temperature_it_always_works(temperatures: list[float | None]) -> None:
    state = unread(LIMITS)
    for temperature_c in temperatures:
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        if temperature_c is not None and temperature_c <= LIMITS.resume_c:
            assert not isinstance(decide(state, temperature_c, LIMITS), Hold)


@given(readings)
def test_between_the_limits_a_decision_only_changes_through_a_limit(temperatures: list[float | None]) -> None:
    state, was_held = observe(unread(LIMITS), 20.0, is_loading=False, limits=LIMITS), False
    for temperature_c in (t for t in temperatures if t is not None):
        state = observe(state, temperature_c, is_loading=False, limits=LIMITS)
        is_held = isinstance(decide(state, temperature_c, LIMITS), Hold)
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
        assert isinstance(decide(state, None, limits), Hold) == (count >= polls)


def after(*temperatures: float | None, limits: ThermalSettings = LIMITS) -> State:
    """A card that was cool, and then showed these readings, one poll apart."""
    state = COOL
    for poll, temperature_c in enumerate(temperatures):
        state = observe_at(state, temperature_c, at_s=poll * limits.poll_s, is_loading=False, limits=limits)
    return state


@pytest.mark.parametrize(
    ("readings_c", "expected"),
    [
        pytest.param([74.9] * 12, Run(), id="below the first limit it runs"),
        pytest.param([75.0] * 12, Run(), id="at it the rests are still nought"),
        pytest.param([77.5] * 12, Ease(1 - 0.9 / 4), id="half way a quarter of the most rest"),
        pytest.param([79.9] * 12, Ease(1 - 0.9 * 0.98**2), id="just below the hold nearly all of it"),
        pytest.param([79.0] * 6 + [None], Ease(1 - 0.9 * 0.8**2), id="one missing reading changes nothing"),
    ],
)
def test_a_warm_card_is_eased(readings_c: list[float | None], expected: Decision) -> None:
    decision = decide(after(*readings_c), readings_c[-1], LIMITS)
    if isinstance(expected, Ease):
        assert isinstance(decision, Ease)
        assert decision.duty == pytest.approx(expected.duty)
    else:
        assert decision == expected


def test_a_card_that_warms_is_eased_more_than_one_that_cools() -> None:
    duties = []
    for slope in (0.05, 0.0, -0.05):
        decision = decide(after(*(77.5 + slope * 5.0 * (poll - 11) for poll in range(12))), 77.5, LIMITS)
        duties.append(decision.duty if isinstance(decision, Ease) else 1.0)
    assert duties == sorted(set(duties))


def test_the_trend_is_the_line_through_the_readings() -> None:
    level_c, slope = trend([(5.0 * poll, 70.0 + 0.1 * 5.0 * poll) for poll in range(6)])
    assert level_c == pytest.approx(72.5)
    assert slope == pytest.approx(0.1)
    assert trend([(0.0, 75.0), (5.0, 76.0)]) == (76.0, 0.0)


def test_a_full_duty_as_the_least_never_eases() -> None:
    limits = ThermalSettings(least_duty=1.0)
    assert decide(after(*[79.0] * 12, limits=limits), 79.0, limits) == Run()


@pytest.mark.parametrize(
    ("state", "temperature_c", "kind"),
    [
        pytest.param(COOL, 90.0, Unload, id="at the last limit models leave"),
        pytest.param(HOT, 89.9, Hold, id="below it they stay"),
        pytest.param(SCORCHED, 85.0, Unload, id="a card that was there stays empty until it has cooled"),
        pytest.param(SCORCHED, None, Unload, id="also when it falls silent"),
        pytest.param(SCORCHED, 70.0, Run, id="and works again when it has"),
    ],
)
def test_models_are_unloaded_from_a_scorched_card(
    state: State, temperature_c: float | None, kind: type[Decision]
) -> None:
    after_it = observe(state, temperature_c, is_loading=False, limits=LIMITS)
    assert type(decide(after_it, temperature_c, LIMITS)) is kind


def test_a_monitor_that_follows_keeps_a_scorched_card_empty() -> None:
    state = observe(unread(LIMITS, is_scorched=True), 82.0, is_loading=False, limits=LIMITS)
    assert isinstance(decide(state, 82.0, LIMITS), Unload)


@given(st.lists(st.floats(0, 120), min_size=1, max_size=40))
def test_a_duty_lies_between_the_least_and_all(temperatures: list[float]) -> None:
    decision = decide(after(*temperatures), temperatures[-1], LIMITS)
    if isinstance(decision, Ease):
        assert LIMITS.least_duty <= decision.duty < 1.0
        assert trend(after(*temperatures).recent)[0] >= LIMITS.ease_c
