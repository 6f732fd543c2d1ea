"""Pictures through a real worker whose process is killed, stopped or called off."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tasks import board, keys
from tasks.app import configure
from tasks.cancel import cancel
from tasks.connection import connect_async
from tasks.events import Finished, Started, StepDone
from tasks.jobs import JobClass, JobId
from tests.worker.processes import BOOT_PATIENCE_S, CARD, House, Service, house, until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("pictures")) as built:
        configure(built.settings)
        yield built


@pytest.fixture
def npu(home: House) -> Service:
    """A worker with a card that is well, the same one as long as it lives."""
    home.clear()
    npu = home.running("npu") or home.start_npu()
    home.settle()
    return npu


def until_finishing(home: House, job: JobId) -> None:
    """The card is done with the picture, and its message is acknowledged."""
    until((home.settings.data_dir / f"{job}.sketch").exists, f"the pixels of {job}")

    def is_acknowledged() -> bool:
        return not any(job in str(message) for message in home.store.hvals("unacked"))

    until(is_acknowledged, "its message to be done")


async def test_the_next_picture_is_drawn_while_the_file_of_the_last_is_made(
    home: House, npu: Service
) -> None:
    first = await home.submit_picture(step_ms=20, file_ms=2000)
    second = await home.submit_picture(step_ms=20, file_ms=2000)
    until_finishing(home, first)
    home.until_event(second, StepDone)
    assert home.field(first, "state") == "running"
    assert home.until_ended(first) == home.until_ended(second) == "succeeded"
    assert float(home.field(first, "ended_at")) < float(home.field(second, "ended_at"))
    assert [home.field(job, "attempt") for job in (first, second)] == ["1", "1"]


async def test_a_child_killed_while_it_draws_costs_a_strike_and_the_picture_is_drawn_again(
    home: House, npu: Service
) -> None:
    job = await home.submit_picture(steps=50, step_ms=20)
    home.until_event(job, StepDone)
    (child,) = npu.children()
    os.kill(child, signal.SIGKILL)
    assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
    assert (home.field(job, "attempt"), home.field(job, "strikes")) == ("2", "1")
    assert home.drawn(job) == 1


async def test_a_child_killed_while_it_makes_files_draws_none_of_them_again(
    home: House, npu: Service
) -> None:
    """Nobody watches over the queue here: the card's next owner alone has to repair it."""
    job = await home.submit_picture(file_ms=3000)
    others = [await home.submit_picture(step_ms=50) for _ in range(3)]
    until_finishing(home, job)
    (child,) = npu.children()
    os.kill(child, signal.SIGKILL)
    jobs = [job, *others]
    for each in jobs:
        assert home.until_ended(each, BOOT_PATIENCE_S) == "succeeded"
    assert (home.field(job, "attempt"), home.field(job, "strikes")) == ("2", "1")
    assert home.drawn(job) == 1
    assert [type(event) for event in home.events(job)].count(Finished) == 1
    # The grid is still in order: the repaired job stood at the head of its queue.
    ended = [float(home.field(each, "ended_at")) for each in jobs]
    assert ended == sorted(ended)
    assert not (home.settings.data_dir / f"{job}.sketch").exists()


async def test_told_to_stop_it_gives_back_what_it_draws_and_finishes_what_is_drawn(
    home: House, npu: Service
) -> None:
    drawn = await home.submit_picture(file_ms=1000)
    drawing = await home.submit_picture(steps=200, step_ms=20)
    until_finishing(home, drawn)
    home.until_event(drawing, StepDone)
    assert npu.stop(signal.SIGTERM) == 0
    assert home.field(drawn, "state") == "succeeded"
    assert home.field(drawing, "state") == "queued"
    assert home.field(drawing, "strikes") == "0"
    assert "Traceback" not in npu.log
    await call_off(home, drawing)


async def test_a_picture_that_is_being_drawn_is_called_off_at_its_next_step(
    home: House, npu: Service
) -> None:
    job = await home.submit_picture(steps=500, step_ms=20)
    home.until_event(job, StepDone)
    await call_off(home, job)
    assert home.until_ended(job) == "cancelled"
    assert home.drawn(job) == 0


async def call_off(home: House, job: JobId) -> None:
    async with connect_async(home.settings) as client:
        await cancel(client, job, settings=home.settings)


async def test_batches_yield_to_pictures_and_pictures_to_chats(home: House, npu: Service) -> None:
    """With real queues, both models being on the card: which is asked for first is not what decides."""
    for warm in (await home.submit(), await home.submit_picture()):
        assert home.until_ended(warm) == "succeeded"
    home.store.set(keys.hold(CARD), board.encode(board.Hold("operator", "a test", 0)))
    until(lambda: "held by operator" in npu.log, "the gate to close")
    batch = [await home.submit_picture(job_class=JobClass.BATCH) for _ in range(2)]
    images = [await home.submit_picture() for _ in range(2)]
    chats = [await home.submit() for _ in range(2)]
    home.store.delete(keys.hold(CARD))
    expected = [*chats, *images, *batch]
    for job in expected:
        assert home.until_ended(job) == "succeeded"
    started = {job: home.journal_id(job, Started) for job in expected}
    assert sorted(expected, key=started.__getitem__) == expected
