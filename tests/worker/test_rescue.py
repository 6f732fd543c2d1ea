"""A card that is lost under a job comes back by itself: real processes, and a reboot that works."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hardware.virtual.state import CardState, Fault
from tasks import board, keys
from tasks.app import configure
from tasks.events import Queued
from tests.worker.processes import CARD, House, counted, house, until

HASTY = {"HEARTH_RECOVERY__CONFIRM_S": "0.4", "HEARTH_RECOVERY__SETTLE_S": "0.4"}
PATIENCE_S = 45.0


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("rescue"), thermal={"poll_s": 0.2}) as built:
        configure(built.settings)
        built.start_monitor(**HASTY)
        built.start_npu()
        yield built


@pytest.fixture
def card(home: House) -> Iterator[CardState]:
    state = CardState.open(home.settings.card_state_dir)
    yield state
    state.order(fault=Fault.NONE)
    state.close()


def owner_pid(home: House) -> int:
    beat = board.decode(board.Heartbeat, home.store.get(keys.heartbeat(CARD)))
    return 0 if beat is None else beat.pid


async def test_a_lost_card_is_rebooted_and_its_job_goes_on_where_it_stopped(
    home: House, card: CardState
) -> None:
    job = await home.submit(tokens=150, step_ms=10)
    home.until_said(job, 5)
    boots = card.orders().boots
    card.order(fault=Fault.LOST)
    until(lambda: home.store.exists(keys.hold(CARD)), "a hold")
    hold = board.decode(board.Hold, home.store.get(keys.hold(CARD)))
    assert hold is not None
    assert hold.reason == "card_lost"
    assert home.until_ended(job, PATIENCE_S) == "succeeded"
    assert card.orders().boots == boots + 1
    assert home.text(job) == counted(150)
    assert Queued(1, "card_lost") in home.events(job)
    assert home.field(job, "strikes") == "0"
    until(lambda: not home.store.exists(keys.hold(CARD)), "the release")


async def test_a_process_that_is_stuck_in_a_dead_card_is_ended_after_the_reboot(
    home: House, card: CardState
) -> None:
    before = owner_pid(home)
    job = await home.submit(tokens=10, stuck="yes")
    home.until_said(job, 3)
    card.order(fault=Fault.LOST)
    assert home.until_ended(job, PATIENCE_S) == "succeeded"
    assert home.text(job) == counted(10)
    assert home.field(job, "strikes") == "0"
    until(lambda: owner_pid(home) not in (0, before), "a new owner")
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    monitor = home.running("monitor")
    assert monitor is not None
    assert f"card {CARD} is stuck: job {job} has been in one call" in monitor.log


async def test_a_card_that_is_lost_while_nobody_works_on_it_is_noticed(home: House, card: CardState) -> None:
    boots = card.orders().boots
    card.order(fault=Fault.LOST)
    until(lambda: card.orders().boots == boots + 1, "the reboot", PATIENCE_S)
    until(lambda: not home.store.exists(keys.hold(CARD)), "the release", PATIENCE_S)
    assert home.until_ended(await home.submit(tokens=3)) == "succeeded"
