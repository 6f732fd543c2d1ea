"""The state file: across processes, kills, restarts of the machine and clocks that jump."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.groups import VirtualCardSettings
from config.settings import CHECKOUT
from hardware.card import Counters
from hardware.errors import CardBusy
from hardware.virtual.card import VirtualCard
from hardware.virtual.state import CardState, Fault, Orders, Report, Stamp
from tests.hardware.clock import FakeClock
from tests.hardware.conftest import OpenCard

AMBIENT_C = 24.0
MIB = 1 << 20

OWNER = """
import sys
from pathlib import Path
from config.groups import VirtualCardSettings
from hardware.virtual.card import VirtualCard
card = VirtualCard(Path(sys.argv[1]), VirtualCardSettings(memory_mib=64))
buffer = card.allocate(10 << 20)
buffer.write(b"12345")
buffer.read(0, 3)
print("ready", flush=True)
sys.stdin.readline()
print(card._meter.look().fault.name, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def owner(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the card open."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state_dir)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_sees_the_card_and_its_death(owner: subprocess.Popen[str], state_dir: Path) -> None:
    """One owner for several observations: starting one takes a second."""
    state = CardState.open(state_dir)
    report = state.report()
    assert report is not None
    assert report.pid == owner.pid
    assert report.counters == Counters(h2d_bytes=5, h2d_calls=1, d2h_bytes=3, d2h_calls=1)
    assert state.memory(64 * MIB).free_bytes == 54 * MIB

    with pytest.raises(CardBusy, match=f"virtual-0 belongs to process {owner.pid}"):
        VirtualCard(state_dir, VirtualCardSettings(memory_mib=64))
    assert state.is_owned()

    state.order(fault=Fault.SLOW)
    assert owner.stdin is not None
    assert owner.stdout is not None
    owner.stdin.write("\n")
    owner.stdin.flush()
    assert owner.stdout.readline() == "SLOW\n"

    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert not state.is_owned()
    assert state.memory(64 * MIB).free_bytes == 64 * MIB
    assert state.report() == report
    with VirtualCard(state_dir, VirtualCardSettings(memory_mib=64)) as card:
        assert card.memory().free_bytes == 64 * MIB


def test_orders_outlive_everybody(state_dir: Path) -> None:
    CardState.open(state_dir).order(fault=Fault.SLOW, slow_factor=3.0, ambient_c=30.0)
    assert CardState.open(state_dir).orders() == Orders(Fault.SLOW, 3.0, ambient_c=30.0)


def test_an_order_changes_only_what_it_names(state_dir: Path) -> None:
    one, other = CardState.open(state_dir), CardState.open(state_dir)
    one.order(ambient_c=30.0)
    other.order(fault=Fault.HOT)
    one.order(hot_c=85.0)
    assert other.orders() == Orders(Fault.HOT, hot_c=85.0, ambient_c=30.0)


def test_everything_reported_comes_back(state_dir: Path) -> None:
    stamp = Stamp(b"0123456789abcdef", 12.5, 1.7e9)
    counters = Counters(1, 2, 3, 4, 5, 6, 7, 8.5)
    report = Report(4711, stamp, 55.5, 0.25, 3, 1 << 33, 1 << 32, True, counters)
    CardState.open(state_dir).write_report(report)
    assert CardState.open(state_dir).report() == report


@pytest.mark.parametrize("content", [b"", b"something else", b"HEARTHVC\x01\0\0\0" + bytes(4096)])
def test_a_file_of_another_kind_is_begun_anew(state_dir: Path, content: bytes) -> None:
    state_dir.mkdir()
    (state_dir / "virtual-0.state").write_bytes(content)
    state = CardState.open(state_dir)
    assert state.report() is None
    assert state.orders() == Orders()
    state.order(fault=Fault.OOM)
    assert CardState.open(state_dir).orders().fault is Fault.OOM


def test_a_set_temperature_goes_on_by_itself(state_dir: Path, clock: FakeClock) -> None:
    state = CardState.open(state_dir, clock=clock)
    state.set_temperature(90)
    assert state.temperature_c(AMBIENT_C) == 90
    clock.now_s += 60
    assert 70 < state.temperature_c(AMBIENT_C) < 80


def test_an_owner_at_work_takes_over_a_set_temperature(
    open_card: OpenCard, state_dir: Path, clock: FakeClock
) -> None:
    card = open_card(clock=clock, ambient_c=AMBIENT_C)
    state = CardState.open(state_dir, clock=clock)
    state.set_temperature(90)
    card.allocate(1)
    report = state.report()
    assert report is not None
    assert (report.temperature_c, report.order_seen) == (90, 1)
    assert state.temperature_c(AMBIENT_C) == 90
    state.set_temperature(40)
    assert state.temperature_c(AMBIENT_C) == 40


def test_the_pinned_temperature_hides_the_model_but_does_not_change_it(
    state_dir: Path, clock: FakeClock
) -> None:
    state = CardState.open(state_dir, clock=clock)
    state.order(fault=Fault.HOT, hot_c=95.0)
    clock.now_s += 1000
    assert state.temperature_c(AMBIENT_C) == 95
    state.order(fault=Fault.NONE)
    assert state.temperature_c(AMBIENT_C) == AMBIENT_C + 12


def test_a_wall_clock_that_jumps_changes_nothing(state_dir: Path, clock: FakeClock) -> None:
    state = CardState.open(state_dir, clock=clock)
    state.set_temperature(90)
    for jump_s in (-3e7, 3e7):
        clock.wall_minus_steady_s += jump_s
        assert state.temperature_c(AMBIENT_C) == 90


def restart(clock: FakeClock, off_s: float) -> None:
    clock.boot_id = b"the second start"
    clock.wall_minus_steady_s += clock.now_s + off_s
    clock.now_s = 0.0


def test_after_a_restart_the_wall_clock_tells_how_long_it_cooled(state_dir: Path, clock: FakeClock) -> None:
    CardState.open(state_dir, clock=clock).set_temperature(90)
    restart(clock, off_s=60)
    state = CardState.open(state_dir, clock=clock)
    assert 70 < state.temperature_c(AMBIENT_C) < 80


def test_after_a_restart_with_a_clock_gone_back_the_card_has_rested(
    state_dir: Path, clock: FakeClock
) -> None:
    CardState.open(state_dir, clock=clock).set_temperature(90)
    restart(clock, off_s=-1e6)
    assert CardState.open(state_dir, clock=clock).temperature_c(AMBIENT_C) == AMBIENT_C + 12
    assert CardState.open(state_dir, clock=clock).npu_load() == 0


def test_where_no_start_of_the_machine_is_known_the_wall_clock_counts(clock: FakeClock) -> None:
    clock.boot_id = bytes(16)
    stamp = Stamp.now(clock)
    clock.wall_minus_steady_s += 60
    assert stamp.age_s(clock) == 60
    clock.wall_minus_steady_s -= 120
    assert stamp.age_s(clock) is None


def test_a_steady_clock_that_runs_behind_does_not_heat(clock: FakeClock) -> None:
    stamp = Stamp.now(clock)
    clock.now_s -= 5
    assert stamp.age_s(clock) == 0


def test_a_reboot_ends_a_hang_and_frees_what_was_held(state_dir: Path) -> None:
    owner, operator = CardState.open(state_dir, 1), CardState.open(state_dir, 1)
    assert owner.hold(5 * MIB, 64 * MIB, is_kept=True)
    operator.order(fault=Fault.HANG)
    assert operator.reboot()
    orders = owner.orders()
    assert (orders.fault, orders.boots) == (Fault.NONE, 1)
    assert owner.memory(64 * MIB).free_bytes == 64 * MIB
    assert CardState.open(state_dir).orders() == Orders()  # another device


def test_a_reboot_fails_as_often_as_it_was_told_to(state_dir: Path) -> None:
    state = CardState.open(state_dir)
    state.order(fault=Fault.LOST, failing_reboots=2)
    assert [state.reboot() for _ in range(3)] == [False, False, True]
    assert state.orders().fault is Fault.NONE


def test_a_reboot_leaves_the_room_as_warm_as_it_was(state_dir: Path) -> None:
    state = CardState.open(state_dir)
    state.order(fault=Fault.BLIND, ambient_c=31.0)
    state.reboot()
    assert (state.orders().fault, state.orders().ambient_c) == (Fault.BLIND, 31.0)


HOLDER = """
import sys
from pathlib import Path
from hardware.virtual.state import CardState
print(CardState.open(Path(sys.argv[1])).hold(40 << 20, 64 << 20, is_kept=sys.argv[2] == "kept"), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["given back", "kept"])
def test_processes_share_the_memory_of_a_device(state_dir: Path, kind: str) -> None:
    state = CardState.open(state_dir)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state_dir), kind],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not state.hold(25 * MIB, 64 * MIB)
        assert state.hold(24 * MIB, 64 * MIB)
        assert {each.pid: each.size_bytes // MIB for each in state.holders()} == {
            other.pid: 40,
            os.getpid(): 24,
        }
        other.kill()
    assert state.memory(64 * MIB).free_bytes // MIB == (0 if kind == "kept" else 40)
    assert state.hold(0, 64 * MIB)
    assert len(state.holders()) == (1 if kind == "kept" else 0)
