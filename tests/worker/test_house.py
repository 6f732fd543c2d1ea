"""Both workers as processes on one virtual card: heat, a dead monitor, the first reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hardware.virtual.state import CardState, Fault
from tasks import board, keys
from tasks.app import configure
from tasks.events import Event, Held, Resumed
from tasks.jobs import JobId
from tests.worker.processes import CARD, House, Service, counted, house, until

POLL_S = 0.3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), thermal={"poll_s": POLL_S}) as built:
        configure(built.settings)
        yield built


@pytest.fixture(scope="module")
def workers(home: House) -> Service:
    """worker-monitor, and worker-npu with the counting models."""
    monitor = home.start_monitor()
    home.start_npu()
    return monitor


@pytest.fixture
def card(home: House) -> Iterator[CardState]:
    state = CardState.open(home.settings.card_state_dir)
    yield state
    state.order(fault=Fault.NONE)
    state.close()


def pauses(home: House, job: JobId) -> list[Event]:
    return [event for event in home.events(job) if isinstance(event, Held | Resumed)]


def test_a_monitor_reads_and_scans_at_once_and_leaves_when_told(home: House) -> None:
    monitor = home.start("early", "-m", "worker", "monitor", HEARTH_THERMAL__POLL_S="60")
    monitor.until_logged("watching")
    assert home.store.exists(keys.telemetry(CARD), keys.CATALOG) == 2
    assert monitor.stop() == 0
    assert "Traceback" not in monitor.log
    home.store.delete(keys.telemetry(CARD))


async def test_a_hot_card_rests_in_the_middle_of_an_answer(
    home: House, workers: Service, card: CardState
) -> None:
    job = await home.submit(tokens=250, step_ms=5)
    home.until_said(job, 10)
    card.order(fault=Fault.HOT, hot_c=86.0)
    home.until_event(job, Held)
    waiting = await home.submit()
    said = len(home.text(job))
    await asyncio.sleep(2 * POLL_S)  # a pause in which a card that did not rest would speak
    assert len(home.text(job)) == said
    assert home.field(waiting, "state") == "queued"
    hold = board.decode(board.Hold, home.store.get(keys.hold(CARD)))
    assert hold is not None
    assert hold.reason == "thermal"
    card.order(fault=Fault.NONE)
    assert home.until_ended(job) == "succeeded"
    assert home.until_ended(waiting) == "succeeded"
    assert home.text(job) == counted(250)
    held, resumed = pauses(home, job)
    assert isinstance(held, Held)
    assert held.reason == "thermal"
    assert isinstance(resumed, Resumed)
    assert resumed.held_ms >= 2 * POLL_S * 1000


async def test_a_card_that_tells_nothing_is_held(home: House, workers: Service, card: CardState) -> None:
    card.order(fault=Fault.BLIND)
    until(lambda: b'"telemetry"' in (home.store.get(keys.hold(CARD)) or b""), "the hold")
    job = await home.submit()
    card.order(fault=Fault.NONE)
    assert home.until_ended(job) == "succeeded"


async def test_a_dead_monitor_means_a_hold_and_its_successor_ends_it(home: House, workers: Service) -> None:
    job = await home.submit(tokens=250, step_ms=5)
    home.until_said(job, 1)
    workers.kill()
    home.until_event(job, Held)
    until(lambda: not home.store.exists(keys.MONITOR), "the end of its word")
    waiting = await home.submit()
    home.start_monitor()
    assert home.until_ended(job) == "succeeded"
    assert home.until_ended(waiting) == "succeeded"
    held, *_ = pauses(home, job)
    assert isinstance(held, Held)
    assert held.reason == "telemetry"
