"""worker-npu as a process: a real Celery worker, a real Redis, models that only count."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from config.settings import CHECKOUT, read_settings
from hardware.choose import open_card
from tasks import board, keys
from tasks.app import app, configure
from tasks.connection import connect_async
from tasks.events import Failed, Finished, Loading, Queued, Started
from tasks.jobs import ANONYMOUS, JobClass, ModelJob, Submission, new_job_id
from tasks.pauses import Pause
from tasks.submit import submit
from tests.worker.fake_models import model
from tests.worker.processes import BOOT_PATIENCE_S, CARD, House, Service, counted, house, until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("npu")) as built:
        configure(built.settings)
        yield built


@pytest.fixture
def npu(home: House) -> Service:
    """A worker with a card that is well, the same one as long as it lives."""
    home.clear()
    npu = home.running("npu") or home.start_npu()
    home.settle()
    return npu


def hold(home: House) -> None:
    home.store.set(keys.hold(CARD), board.encode(board.Hold("operator", "a test", 0)))


def release(home: House) -> None:
    home.store.delete(keys.hold(CARD))


def test_the_parent_loads_no_device_library() -> None:
    code = "import sys, worker.npu; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, check=True)
    loaded = set(ran.stdout.decode().split())
    assert "celery" in loaded
    assert not loaded & {
        "hardware",
        "models",
        "numpy",
        "ml_dtypes",
        "onnxruntime",
        "transformers",
        "tokenizers",
    }


@pytest.mark.parametrize("role", ["npu", "monitor"])
def test_without_redis_a_worker_says_so_in_one_line_and_leaves(
    home: House, role: str, tmp_path: Path
) -> None:
    service = home.start(role, "-m", "worker", role, HEARTH_REDIS_URL=f"unix://{tmp_path}/none.sock?db=0")
    assert service.process.wait(20) == 1
    assert len(service.log.splitlines()) == 1
    assert f"worker-{role}: Redis cannot be reached at {tmp_path}/none.sock" in service.log


def test_a_taken_card_ends_the_worker_with_a_line_that_names_the_owner(home: House, tmp_path: Path) -> None:
    with open_card(read_settings(data_dir=tmp_path)):
        service = home.start("late", "-m", "tests.worker.fake_npu", HEARTH_DATA_DIR=str(tmp_path))
        assert service.process.wait(20) == 1
    assert service.log.splitlines()[-1] == (
        f"worker-npu: cannot open card {CARD}: {CARD} belongs to process {os.getpid()}"
    )
    assert "Traceback" not in service.log


def test_a_data_directory_that_cannot_be_used_is_told_in_one_line(home: House, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = f"{tmp_path}/file/data"
    service = home.start("homeless", "-m", "tests.worker.fake_npu", HEARTH_DATA_DIR=data)
    assert service.process.wait(40) == 1
    assert service.log.splitlines()[-1].startswith(f"worker-npu: cannot open card {CARD}: ")
    assert data in service.log
    assert "Traceback" not in service.log


def test_a_child_that_dies_at_boot_ends_the_worker_after_three_tries(home: House) -> None:
    boot = "import os; from worker import logs, npu; from config.settings import settings"
    service = home.start("stillborn", "-c", f"{boot}; npu.run(settings(), lambda link: os._exit(9))")
    assert service.process.wait(40) == 1
    last = service.log.splitlines()[-1]
    assert last == "worker-npu: the card's process died 3 times before it had opened the card"


_DEADLY = """
import ctypes
from functools import partial
from config.settings import settings
from tests.worker import fake_models
from worker import boot, npu

def loading(card, model, size):
    yield 0, 1
    ctypes.string_at(0)

catalog = fake_models.Catalog(0, (fake_models.model("alpha"),))
models = boot.Models(lambda settings: catalog, loading, lambda job: None)
npu.run(settings(), partial(boot.boot, models=lambda: models))
"""


async def test_a_model_that_kills_its_process_fails_its_job_and_not_the_worker(home: House) -> None:
    if npu := home.running("npu"):
        npu.stop()
    home.clear()
    service = home.start("deadly", "-c", _DEADLY, HEARTH_QUEUE__MAX_STRIKES="1")
    try:
        job = await home.submit()
        assert home.until_ended(job, BOOT_PATIENCE_S) == "failed"
        assert home.field(job, "strikes") == "1"
        last = home.events(job)[-1]
        assert isinstance(last, Failed)
        assert "the last time it was ended by SIGSEGV in _between_files (worker/residency.py:" in last.message
    finally:
        service.stop()


async def test_a_job_runs_and_the_log_says_that_the_card_is_virtual(home: House, npu: Service) -> None:
    job = await home.submit(tokens=20)
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(20)
    kinds = [type(event) for event in home.events(job)]
    assert kinds[:2] == [Queued, Started]
    assert Loading in kinds
    assert kinds[-1] is Finished
    assert "VIRTUAL" in next(line for line in npu.log.splitlines() if "hearth.card" in line)

    def residents() -> list[str]:
        fact = board.decode(board.Residents, home.store.get(keys.residents(CARD)))
        return [resident.model for resident in fact.models] if fact else []

    until(lambda: "alpha" in residents(), "the model among the residents")


def test_a_worker_that_is_ready_asks_the_monitor_for_a_reading(home: House, npu: Service) -> None:
    until(lambda: "hearth.poll" in str(home.store.lrange("monitor", 0, -1)), "a message to the monitor")


async def test_a_worker_that_starts_held_consumes_nothing_and_goes_on_when_released(
    home: House, npu: Service
) -> None:
    npu.stop()
    hold(home)
    npu = home.start_npu()
    npu.until_logged("held by operator")
    job = await home.submit()
    await asyncio.sleep(1.2)  # two looks of the gate and a broker poll: nothing must happen in them
    assert home.field(job, "state") == "queued"
    release(home)
    assert home.until_ended(job) == "succeeded"


async def test_rapid_holds_and_releases_never_stall_the_worker(home: House, npu: Service) -> None:
    for _ in range(25):
        hold(home)
        await asyncio.sleep(0.04)
        release(home)
        await asyncio.sleep(0.04)
    jobs = [await home.submit(model=model) for model in ("alpha", "beta", "alpha")]
    assert [home.until_ended(job) for job in jobs] == ["succeeded"] * 3


async def test_without_word_of_its_health_the_card_is_held(home: House, npu: Service) -> None:
    job = await home.submit(tokens=300, step_ms=5)
    home.until_said(job, 1)
    home.store.delete(keys.telemetry(CARD))
    until(lambda: "held" in [event.type for event in home.events(job)], "the running job to rest")
    assert '"telemetry"' in str(home.store.get(keys.hold(CARD)))
    home.clear()
    until(lambda: "resumed" in [event.type for event in home.events(job)], "the running job to go on")
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(300)


async def test_a_paused_queue_is_left_alone_and_others_are_served(home: House, npu: Service) -> None:
    home.store.hset(keys.PAUSES, "*.alpha", board.encode(Pause("a test", 0)))
    until(lambda: "chat.alpha" not in npu.log.rsplit("consuming ", 1)[-1].split("\n")[0], "the gate")
    waiting = await home.submit(model="alpha")
    served = await home.submit(model="beta")
    assert home.until_ended(served) == "succeeded"
    assert home.field(waiting, "state") == "queued"
    home.store.hdel(keys.PAUSES, "*.alpha")
    assert home.until_ended(waiting) == "succeeded"


async def test_the_first_job_of_a_known_model_does_not_wait_for_the_gate(home: House, npu: Service) -> None:
    newcomers = ("one", "two", "three")  # the quickest counts: a machine at its limit may delay any of them
    home.store.set(keys.CATALOG, board.encode(board.Catalog(0, tuple(map(model, ("alpha", *newcomers))))))
    npu.until_logged("chat.three")
    home.until_ended(await home.submit(tokens=1))  # ends the wait at the broker that began before
    took_s = []
    for newcomer in newcomers:
        began_s = time.monotonic()
        home.until_ended(await home.submit(tokens=1, model=newcomer))
        took_s.append(time.monotonic() - began_s)
    assert min(took_s) < 0.45, "the gate looks every 0.5 s, the broker is asked every 1 s"


async def test_a_killed_child_costs_a_strike_and_no_word_of_the_answer(home: House, npu: Service) -> None:
    job = await home.submit(tokens=120, step_ms=5)
    home.until_said(job, 30)
    (child,) = npu.children()
    os.kill(child, signal.SIGKILL)
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(120)
    assert home.field(job, "strikes") == "1"
    assert home.field(job, "attempt") == "2"
    assert npu.children() != [child]


async def test_a_drain_gives_the_running_job_back_without_a_strike(home: House, npu: Service) -> None:
    job = await home.submit(tokens=600, step_ms=5)
    waiting = await home.submit(tokens=5)
    home.until_said(job, 30)
    began_s, before = time.monotonic(), len(npu.log)
    assert npu.stop(signal.SIGTERM, signal.SIGTERM, signal.SIGINT) == 0
    assert time.monotonic() - began_s < 3.0
    said = npu.log[before:]
    assert "Traceback" not in said
    assert f"card {CARD} closed" in said
    assert not home.store.exists(keys.heartbeat(CARD))
    assert home.field(job, "state") == "queued"
    home.start_npu()
    assert home.until_ended(job) == "succeeded"
    assert home.until_ended(waiting) == "succeeded"
    assert home.text(job) == counted(600)
    assert home.field(job, "strikes") == "0"
    assert [event.attempt for event in home.events(job) if isinstance(event, Started)] == [1, 2]
    assert [event.attempt for event in home.events(waiting) if isinstance(event, Started)] == [1]


async def test_a_child_told_to_stop_alone_is_followed_by_another(home: House, npu: Service) -> None:
    job = await home.submit(tokens=300, step_ms=5)
    home.until_said(job, 10)
    (child,) = npu.children()
    os.kill(child, signal.SIGTERM)
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(300)
    assert home.field(job, "strikes") == "0"
    assert npu.children() != [child]


async def test_a_child_that_has_grown_too_large_is_followed_by_another_after_its_job(home: House) -> None:
    if running := home.running("npu"):
        running.stop()
    home.clear()
    npu = home.start_npu(HEARTH_WORKER__CHILD_MEMORY_MIB="1")
    picture = await home.submit_picture(file_ms=300)
    chat = await home.submit(tokens=5)
    for job in (picture, chat):
        assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
        assert (home.field(job, "attempt"), home.field(job, "strikes")) == ("1", "0")
    assert home.text(chat) == counted(5)
    assert home.drawn(picture) == 1
    until(lambda: npu.log.count(f"card {CARD} is ours") == 3, "a new owner after each job", BOOT_PATIENCE_S)
    assert npu.log.count("a fresh process takes over") == npu.log.count(f"card {CARD} closed") == 2
    assert "Traceback" not in npu.log
    assert npu.stop() == 0


async def test_a_redis_that_lost_its_data_is_told_anew_who_owns_the_card(home: House, npu: Service) -> None:
    (child,) = npu.children()
    home.store.delete(keys.epoch(CARD))
    job = await home.submit()
    assert home.until_ended(job) == "succeeded"
    assert home.field(job, "strikes") == "0"
    assert npu.children() != [child]


async def test_a_killed_parent_leaves_no_child_and_its_successor_takes_the_card(
    home: House, npu: Service
) -> None:
    (child,) = npu.children()
    npu.kill()
    until(lambda: not Path(f"/proc/{child}").exists(), "the child to go with its parent")
    home.start_npu()
    assert home.until_ended(await home.submit()) == "succeeded"


async def test_revoke_cancels_a_job_and_nothing_can_resize_the_pool(home: House, npu: Service) -> None:
    job = await home.submit(tokens=2000, step_ms=5)
    home.until_said(job, 1)
    (child,) = npu.children()
    for command in ("pool_grow", "pool_shrink", "pool_restart", "autoscale", "time_limit", "terminate"):
        replies = app.control.broadcast(command, arguments={}, reply=True, limit=1, timeout=5.0)
        assert "'error'" in str(replies), f"{command} did something: {replies}"
    app.control.revoke(job, terminate=True, signal="SIGKILL")
    assert home.until_ended(job) == "cancelled"
    assert npu.children() == [child]


async def test_a_card_too_hot_for_its_models_is_emptied_and_its_job_goes_on_later(
    home: House, npu: Service
) -> None:
    job = await home.submit(200, step_ms=10)
    home.until_said(job, 3)
    hot = board.Hold("thermal", "91 °C", int(time.time() * 1000), unload=True)
    home.store.set(keys.hold(CARD), board.encode(hot))

    def residents() -> int:
        told = board.decode(board.Residents, home.store.get(keys.residents(CARD)))
        return -1 if told is None else len(told.models)

    until(lambda: residents() == 0, "the models to leave the card")
    assert Queued(1, "too_hot") in home.events(job)
    assert home.field(job, "state") == "queued"
    release(home)
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(200)
    assert home.field(job, "strikes") == "0"


async def test_a_model_job_loads_and_unloads(home: House, npu: Service) -> None:
    steps: tuple[tuple[Literal["load", "unload"], bool], ...] = (("load", True), ("unload", False))
    for action, here in steps:
        about = Submission(new_job_id(), ANONYMOUS, JobClass.CHAT, int(time.time() * 1000))
        async with connect_async(home.settings) as client:
            await submit(client, ModelJob(about, "beta", action), home.settings)
        assert home.until_ended(about.id) == "succeeded"
        told = board.decode(board.Residents, home.store.get(keys.residents(CARD)))
        assert told is not None
        assert ("beta" in [model.model for model in told.models]) is here
