"""The real engine in a real worker that is killed or called off: every picture comes once, undisturbed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tasks import keys
from tasks.app import configure
from tasks.cancel import cancel
from tasks.connection import connect_async
from tasks.events import Finished, Queued, Started, StepDone
from tasks.jobs import ANONYMOUS, ImageJob, JobClass, JobId, Submission, new_job_id
from tasks.pictures.header import PictureFormat
from tasks.submit import submit
from tests.models.diffusion.tiny import write_tiny
from tests.worker.processes import BOOT_PATIENCE_S, CARD, House, Service, house, until

SMALL, LARGE = (80, 64), (1536, 1536)
STEPS = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One model: small pictures take long to draw, large ones long to encode."""
    place = tmp_path_factory.mktemp("drawing")
    slow = {"unet": 150.0, "decoder": 600.0}
    root = write_tiny(place / "models" / "tiny", step_ms=slow)
    write_tiny(root / "models_1536x1536", 1536, 1536, text=False, encoder=False)
    with house(place) as built:
        configure(built.settings)
        yield built


@pytest.fixture
def npu(home: House) -> Service:
    """A worker with a card that is well, the same one as long as it lives."""
    home.clear()
    npu = home.running("npu") or start(home)
    home.settle()
    return npu


def start(home: House) -> Service:
    home.store.delete(keys.heartbeat(CARD))
    models = {"HEARTH_MODELS_DIR": str(home.settings.data_dir.parent / "models")}
    npu = home.start("npu", "-m", "worker", "npu", HEARTH_VIRTUAL_CARD__TIMING="pi5", **models)
    until(
        lambda: home.store.exists(keys.heartbeat(CARD)),
        lambda: f"the card's owner; {npu.log}",
        BOOT_PATIENCE_S,
    )
    return npu


async def draw(home: House, size: tuple[int, int] = SMALL, kind: PictureFormat = PictureFormat.PNG) -> JobId:
    about = Submission(new_job_id(), ANONYMOUS, JobClass.IMAGE, int(time.time() * 1000))
    job = ImageJob(about, "tiny", "a red cat", 7, *size, STEPS, format=kind, quality=100)
    async with connect_async(home.settings) as client:
        await submit(client, job, home.settings)
    return about.id


def output(home: House, job: JobId) -> bytes:
    """The file that the job has made."""
    (ref,) = json.loads(home.field(job, "output"))
    data: bytes = (home.settings.data_dir / ref["path"]).read_bytes()
    return data


def count(home: House, job: JobId, kind: type[Any]) -> int:
    return sum(isinstance(event, kind) for event in home.events(job))


def kill_child(npu: Service) -> None:
    (child,) = npu.children()
    os.kill(child, signal.SIGKILL)


async def test_a_child_killed_while_it_draws_leaves_no_trace_in_the_picture(
    home: House, npu: Service
) -> None:
    calm = await draw(home)
    assert home.until_ended(calm, BOOT_PATIENCE_S) == "succeeded"
    job = await draw(home)
    home.until_event(job, StepDone)
    kill_child(npu)
    assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
    assert output(home, job) == output(home, calm)
    assert (count(home, job, Started), count(home, job, Finished)) == (2, 1)
    assert home.field(job, "strikes") == "1"


async def test_a_child_killed_while_it_encodes_draws_nothing_again(home: House, npu: Service) -> None:
    calm = await draw(home, LARGE, PictureFormat.WEBP)
    assert home.until_ended(calm, BOOT_PATIENCE_S) == "succeeded"
    job = await draw(home, LARGE, PictureFormat.WEBP)
    aside = home.settings.data_dir / "drawings" / f"{job}.pixels"
    until(aside.exists, f"the pixels of {job}")
    kill_child(npu)
    assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
    assert output(home, job) == output(home, calm)
    assert (count(home, job, Started), count(home, job, Finished)) == (2, 1)
    assert count(home, job, StepDone) == STEPS
    until(lambda: not aside.exists(), "the pixels to go")


async def test_a_whole_worker_killed_and_started_anew_goes_on(home: House, npu: Service) -> None:
    jobs = [await draw(home) for _ in range(2)]
    home.until_event(jobs[0], StepDone)
    npu.kill()
    start(home)
    for job in jobs:
        assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
    assert [home.field(job, "attempt") for job in jobs] == ["2", "1"]


async def test_a_drain_gives_a_picture_back(home: House, npu: Service) -> None:
    job = await draw(home)
    home.until_event(job, StepDone)
    assert npu.stop(signal.SIGTERM) == 0
    assert isinstance(home.events(job)[-1], Queued)
    assert (home.field(job, "state"), home.field(job, "strikes")) == ("queued", "0")
    start(home)
    assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"


@pytest.mark.parametrize("steps_done", [1, STEPS], ids=["denoising", "decoding"])
async def test_a_picture_is_called_off_at_the_next_call_into_the_card(
    home: House, npu: Service, steps_done: int
) -> None:
    job = await draw(home)
    until(lambda: count(home, job, StepDone) >= steps_done, f"{steps_done} steps")
    await call_off(home, job)
    assert home.until_ended(job) == "cancelled"
    assert home.field(job, "output") == ""
    assert count(home, job, StepDone) <= max(steps_done + 1, STEPS)


async def test_a_picture_that_waits_is_called_off_at_once(home: House, npu: Service) -> None:
    first, waiting = await draw(home), await draw(home)
    home.until_event(first, StepDone)
    await call_off(home, waiting)
    assert home.field(waiting, "state") == "cancelled"
    assert home.until_ended(first) == "succeeded"


async def call_off(home: House, job: JobId) -> None:
    async with connect_async(home.settings) as client:
        await cancel(client, job, settings=home.settings)
