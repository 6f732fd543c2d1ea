"""Real processes for tests: started with settings of their own, read by their logs, ended by their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from config.settings import CHECKOUT, Settings, read_settings
from tasks import board, journal, keys
from tasks.connection import connect, connect_async
from tasks.events import Event
from tasks.jobs import (
    ANONYMOUS,
    ChatJob,
    ImageJob,
    JobClass,
    JobId,
    Message,
    Sampling,
    Submission,
    new_job_id,
)
from tasks.submit import submit
from tests.conftest import RedisServer

CARD = "virtual-0"
PATIENCE_S = 15.0
BOOT_PATIENCE_S = 45.0
"""A boot takes 3 s of a free processor; tests often share theirs with others."""
Found = TypeVar("Found")


def until(
    ask: Callable[[], Found | None], what: str | Callable[[], str], patience_s: float = PATIENCE_S
) -> Found:
    """The first answer that is true, asked for every few milliseconds; ``what`` tells of a failure."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        if answer := ask():
            return answer
        time.sleep(0.01)
    pytest.fail(f"waited {patience_s:g} s in vain for {what if isinstance(what, str) else what()}")


class Service:
    """One process of ours."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=CHECKOUT, env=env, stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def until_logged(self, words: str) -> None:
        def told() -> str:
            return f"{self.name} to say {words!r}; it said:\n{self.log}"

        until(lambda: words in self.log, told, BOOT_PATIENCE_S)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self, *signals: signal.Signals, patience_s: float = PATIENCE_S) -> int:
        """Send the signals (SIGTERM), wait for the end, return the exit code."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(patience_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class House:
    """Starts processes that share one Redis and one data directory, and talks to them through Redis."""

    def __init__(self, settings: Settings, store: redis.Redis, directory: Path) -> None:
        self.settings = settings
        self.store = store
        self._directory = directory
        self._started: list[Service] = []

    def start(self, name: str, *command: str, **more: str) -> Service:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        assert self.settings.redis_url is not None
        env |= {
            "HEARTH_REDIS_URL": self.settings.redis_url.get_secret_value(),
            "HEARTH_DATA_DIR": str(self.settings.data_dir),
            "HEARTH_DEMO_MODELS": "false",
            "HEARTH_THERMAL__POLL_S": str(self.settings.thermal.poll_s),
            **more,
        }
        number = len(self._started)
        service = Service(name, list(command), env, self._directory / f"{name}-{number}.log")
        self._started.append(service)
        return service

    def start_npu(self, **more: str) -> Service:
        """worker-npu with the counting models, its child ready."""
        self.store.delete(keys.heartbeat(CARD))
        npu = self.start("npu", "-m", "tests.worker.fake_npu", **more)

        def told() -> str:
            return f"the card's owner; the log:\n{npu.log}"

        until(lambda: self.store.exists(keys.heartbeat(CARD)), told, BOOT_PATIENCE_S)
        return npu

    def start_monitor(self, **more: str) -> Service:
        return self.start("monitor", "-m", "worker", "monitor", **more)

    def running(self, name: str) -> Service | None:
        """The youngest process of that name, if it still runs."""
        alive = [one for one in self._started if one.name == name and one.process.poll() is None]
        return alive[-1] if alive else None

    def settle(self) -> None:
        """Nothing is held or paused, and what still waited or ran has ended."""
        self.store.delete(keys.hold(CARD), keys.PAUSES)
        until(lambda: not self.store.zcard(keys.LEASES) + self.store.zcard(keys.READY), "all jobs to end")

    def clear(self) -> None:
        """Say, in the monitor's place, that the card is well."""
        self.store.set(keys.telemetry(CARD), board.encode(board.Telemetry(read_at_ms=0, temperature_c=30.0)))

    async def submit(
        self, tokens: int = 5, *, step_ms: int = 1, model: str = "alpha", **metadata: str
    ) -> JobId:
        job = ChatJob(
            Submission(
                new_job_id(),
                ANONYMOUS,
                JobClass.CHAT,
                int(time.time() * 1000),
                metadata={"step_ms": str(step_ms), **metadata},
            ),
            model,
            (Message("user", "count"),),
            Sampling(seed=1, max_tokens=tokens),
        )
        async with connect_async(self.settings) as client:
            await submit(client, job, self.settings)
        return job.submission.id

    async def submit_picture(
        self,
        *,
        steps: int = 4,
        step_ms: int = 1,
        file_ms: int = 1,
        job_class: JobClass = JobClass.IMAGE,
    ) -> JobId:
        metadata = {"step_ms": str(step_ms), "file_ms": str(file_ms)}
        about = Submission(new_job_id(), ANONYMOUS, job_class, int(time.time() * 1000), metadata=metadata)
        job = ImageJob(about, "painter", "a cat", 1, 64, 64, steps)
        async with connect_async(self.settings) as client:
            await submit(client, job, self.settings)
        return job.submission.id

    def drawn(self, job_id: JobId) -> int:
        """How often the job's picture was drawn to its end."""
        path = self.settings.data_dir / "drawn"
        return path.read_text().split().count(job_id) if path.exists() else 0

    def events(self, job_id: JobId) -> list[Event]:
        return [entry.event for entry in journal.read(self.store, job_id)]

    def journal_id(self, job_id: JobId, kind: type[Event]) -> tuple[int, int]:
        """When the first event of that kind was written: milliseconds, and a number within them."""
        entries = journal.read(self.store, job_id)
        found = next(entry.id for entry in entries if isinstance(entry.event, kind))
        ms, _, number = found.partition("-")
        return int(ms), int(number)

    def text(self, job_id: JobId) -> str:
        return journal.text(journal.read(self.store, job_id))

    def field(self, job_id: JobId, name: str) -> str:
        value = self.store.hget(keys.job(job_id), name)
        return value.decode() if isinstance(value, bytes) else ""

    def until_said(self, job_id: JobId, tokens: int) -> None:
        until(lambda: len(self.text(job_id).split()) >= tokens, f"{tokens} tokens of {job_id}")

    def until_ended(self, job_id: JobId, patience_s: float = PATIENCE_S) -> str:
        """The state the job ended in."""
        until(lambda: self.field(job_id, "ended_at"), f"the end of {job_id}", patience_s)
        return self.field(job_id, "state")

    def until_event(self, job_id: JobId, kind: type[Event]) -> None:
        until(lambda: any(isinstance(event, kind) for event in self.events(job_id)), kind.__name__)

    def end(self) -> None:
        for service in reversed(self._started):
            if service.process.poll() is None:
                service.kill()


def counted(tokens: int) -> str:
    """What a counting model says in so many tokens."""
    return "".join(f"{number} " for number in range(tokens))


@contextmanager
def house(directory: Path, **overrides: Any) -> Iterator[House]:
    """A house with a Redis of its own; at the end nothing of it is left running."""
    server = RedisServer(directory)
    settings = read_settings(redis_url=server.url, data_dir=directory / "data", **overrides)
    with connect(settings) as store:
        built = House(settings, store, directory)
        try:
            yield built
        finally:
            built.end()
            server.kill()
