"""The Pi 5's pace, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardware.errors import CardTimeout
from hardware.virtual.timing import Pace
from tests.hardware import graphs
from tests.hardware.clock import FakeClock
from tests.hardware.conftest import OpenCard

EXECUTE_S = 0.46e-3


def test_transfers_go_at_400_megabytes_a_second(open_card: OpenCard, clock: FakeClock) -> None:
    card = open_card(timing="pi5", clock=clock)
    buffer = card.allocate(8_000_000)
    buffer.write(bytes(8_000_000))
    assert clock.slept_s == pytest.approx(0.020)
    buffer.read(0, 4_000_000)
    assert clock.slept_s == pytest.approx(0.030)
    buffer.copy_from(buffer.view(0, 4_000_000), 4_000_000)
    assert clock.slept_s == pytest.approx(0.030)
    assert card.counters.busy_s == 0


def test_small_transfers_add_up(open_card: OpenCard, clock: FakeClock) -> None:
    buffer = open_card(timing="pi5", clock=clock).allocate(4000)
    for _ in range(1000):
        buffer.write(bytes(4000))
    assert clock.slept_s == pytest.approx(0.010, abs=Pace._WORTH_A_SLEEP_S)


def test_an_execute_takes_the_call_and_the_graphs_own_time(
    open_card: OpenCard, clock: FakeClock, tmp_path: Path
) -> None:
    card = open_card(timing="pi5", clock=clock)
    path = graphs.adder(tmp_path / "add.axmodel", step_ms=[2, 30])
    graph = card.load(path)
    began_s = clock.slept_s
    a, b = card.allocate(32), card.allocate(32)
    small = graph.bind(0, {"a": a.view(0, 16), "b": a.view(0, 16)}, {"sum": b.view(0, 16)})
    large = graph.bind(1, {"a": a.view(), "b": a.view()}, {"sum": b.view()})
    card.execute([small] * 36 + [large], timeout_s=5)
    lasted_s = 37 * EXECUTE_S + 36 * 0.002 + 0.030
    assert card.counters.busy_s == pytest.approx(lasted_s)
    assert clock.slept_s - began_s == pytest.approx(lasted_s, abs=Pace._WORTH_A_SLEEP_S)


def test_loading_goes_at_60_megabytes_a_second(open_card: OpenCard, clock: FakeClock, tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "add.axmodel")
    with path.open("ab") as file:  # an unknown field of 600 kB, which both readers skip
        file.write(b"\xf2\x7d" + b"\xc0\xcf\x24" + bytes(600_000))
    open_card(timing="pi5", clock=clock).load(path)
    assert clock.slept_s == pytest.approx(path.stat().st_size / 60e6)


def test_what_lasts_longer_than_its_timeout_costs_only_the_timeout(
    open_card: OpenCard, clock: FakeClock, tmp_path: Path
) -> None:
    card = open_card(timing="pi5", clock=clock)
    graph = card.load(graphs.adder(tmp_path / "add.axmodel", step_ms=60_000))
    began_s = clock.now_s
    row = np.ones((1, 4), np.float32)
    with pytest.raises(CardTimeout):
        graph.run({"a": row, "b": row}, timeout_s=1.5)
    assert clock.now_s - began_s == pytest.approx(1.5, abs=0.001)


def test_without_timing_nobody_sleeps(open_card: OpenCard, clock: FakeClock, tmp_path: Path) -> None:
    card = open_card(clock=clock)
    graph = card.load(graphs.adder(tmp_path / "add.axmodel", step_ms=1000))
    row = np.ones((1, 4), np.float32)
    graph.run({"a": row, "b": row}, timeout_s=5)
    assert clock.slept_s == 0


def test_time_that_passed_meanwhile_is_not_slept_again(clock: FakeClock) -> None:
    pace = Pace(clock)
    began_s = clock.steady()
    clock.now_s += 0.004
    assert pace.last(began_s, 0.010) == began_s + 0.010
    assert clock.slept_s == pytest.approx(0.006)
