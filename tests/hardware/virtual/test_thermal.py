from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.virtual import thermal
from hardware.virtual.state import CardState
from tests.hardware import graphs
from tests.hardware.clock import FakeClock
from tests.hardware.conftest import OpenCard
from tests.hardware.examples import patient

AMBIENT_C = 24.0
IDLE_C, FULL_C = AMBIENT_C + 12, AMBIENT_C + 45


@pytest.mark.parametrize(
    ("seconds", "start_c", "load", "end_c"),
    [
        (0, 50, 1.0, 50),
        (180, IDLE_C, 1.0, IDLE_C + (1 - 1 / math.e) * 33),
        (360, IDLE_C, 1.0, IDLE_C + (1 - 1 / math.e**2) * 33),
        (1e9, IDLE_C, 1.0, FULL_C),
        (180, FULL_C, 0.0, IDLE_C + 33 / math.e),
        (1e9, FULL_C, 0.0, IDLE_C),
        (1e9, 10, 0.5, IDLE_C + 16.5),
        (180, 90, 0.0, IDLE_C + (90 - IDLE_C) / math.e),
    ],
)
def test_the_temperature_follows_first_order(
    seconds: float, start_c: float, load: float, end_c: float
) -> None:
    got = thermal.temperature_after(seconds, start_c=start_c, ambient_c=AMBIENT_C, load=load)
    assert got == pytest.approx(end_c)


@patient
@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(-20, 120), st.floats(-20, 60), st.floats(0, 1))
def test_two_spans_are_one_long_span(
    a_s: float, b_s: float, start_c: float, ambient_c: float, load: float
) -> None:
    half = thermal.temperature_after(a_s, start_c=start_c, ambient_c=ambient_c, load=load)
    twice = thermal.temperature_after(b_s, start_c=half, ambient_c=ambient_c, load=load)
    once = thermal.temperature_after(a_s + b_s, start_c=start_c, ambient_c=ambient_c, load=load)
    assert twice == pytest.approx(once, abs=1e-6)


def test_a_card_never_used_is_as_warm_as_one_that_rests(state_dir: Path, clock: FakeClock) -> None:
    assert CardState.open(state_dir, clock=clock).temperature_c(AMBIENT_C) == IDLE_C


def work(
    card_open: OpenCard, clock: FakeClock, tmp_path: Path, busy_s: float, rest_s: float, turns: int
) -> None:
    """Executes of ``busy_s`` with rests of ``rest_s`` between them."""
    card = card_open(timing="pi5", clock=clock, ambient_c=AMBIENT_C)
    timed = graphs.adder(tmp_path / "add.axmodel", step_ms=busy_s * 1000 - 0.46)
    graph = card.load(timed)
    a, b = card.allocate(16), card.allocate(16)
    step = graph.bind(0, {"a": a.view(), "b": a.view()}, {"sum": b.view()})
    for _ in range(turns):
        card.execute([step], timeout_s=60)
        clock.now_s += rest_s


def test_constant_work_heats_to_63_percent_in_one_time_constant(
    open_card: OpenCard, clock: FakeClock, state_dir: Path, tmp_path: Path
) -> None:
    work(open_card, clock, tmp_path, busy_s=1.0, rest_s=0.0, turns=180)
    state = CardState.open(state_dir, clock=clock)
    assert state.temperature_c(AMBIENT_C) == pytest.approx(IDLE_C + 33 * (1 - 1 / math.e), abs=0.05)
    assert state.npu_load() == pytest.approx(1.0, abs=0.001)


def test_half_work_heats_half_as_much(
    open_card: OpenCard, clock: FakeClock, state_dir: Path, tmp_path: Path
) -> None:
    work(open_card, clock, tmp_path, busy_s=0.5, rest_s=0.5, turns=3600)
    state = CardState.open(state_dir, clock=clock)
    assert state.temperature_c(AMBIENT_C) == pytest.approx(IDLE_C + 16.5, abs=0.1)
    assert state.npu_load() == pytest.approx(0.5, abs=0.08)


def test_it_cools_while_nobody_runs(
    open_card: OpenCard, clock: FakeClock, state_dir: Path, tmp_path: Path
) -> None:
    work(open_card, clock, tmp_path, busy_s=1.0, rest_s=0.0, turns=1000)
    state = CardState.open(state_dir, clock=clock)
    hot_c = state.temperature_c(AMBIENT_C)
    clock.now_s += 180
    assert state.temperature_c(AMBIENT_C) == pytest.approx(IDLE_C + (hot_c - IDLE_C) / math.e)
    assert state.npu_load() == pytest.approx(0, abs=1e-6)


def test_a_new_owner_goes_on_at_the_cards_temperature(
    open_card: OpenCard, clock: FakeClock, state_dir: Path
) -> None:
    state = CardState.open(state_dir, clock=clock)
    state.set_temperature(80)
    clock.now_s += 180
    first = open_card(clock=clock, ambient_c=AMBIENT_C)
    expected_c = IDLE_C + (80 - IDLE_C) / math.e
    assert state.temperature_c(AMBIENT_C) == pytest.approx(expected_c)
    first.close()
    clock.now_s += 180
    open_card(clock=clock, ambient_c=AMBIENT_C).allocate(1)
    assert state.temperature_c(AMBIENT_C) == pytest.approx(IDLE_C + (80 - IDLE_C) / math.e**2)
