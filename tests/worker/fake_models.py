"""Stands in for the models room: models that count, at a pace the job's metadata sets."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from config.settings import Settings
from hardware.card import Buffer, Card
from tasks.board import Catalog, Model
from tasks.engines import Signals, Verdict
from tasks.events import Cancelled, Event, Expired, Finished, TextDelta, Timings, Usage
from tasks.jobs import ChatJob, FinishReason
from worker.boot import Models

FILES = 3


@dataclass
class CountingModel:
    """Says ``0 1 2 …`` up to the job's ``max_tokens``; occupies card memory like a real one."""

    memory: Buffer
    context: int = 256
    spare: Buffer | None = None

    @property
    def size_bytes(self) -> int:
        return self.memory.size_bytes

    def stream(self, job: ChatJob, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        step_s = float(job.submission.metadata.get("step_ms", "1")) / 1000
        count = job.sampling.max_tokens or 5
        for number in range(len(emitted), count):
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                yield from _ending(verdict)
                return
            with signals.calling_card(5.0):
                time.sleep(step_s)
            yield TextDelta(f"{number} ", (number,))
        yield Finished(FinishReason.LENGTH, Usage(1, count), Timings())

    def trim(self) -> int:
        if self.spare is None:
            return 0
        size_bytes = self.spare.size_bytes
        self.spare.close()
        self.spare = None
        return size_bytes

    def close(self) -> None:
        self.trim()
        self.memory.close()


def _ending(verdict: Verdict) -> Iterator[Event]:
    if verdict is Verdict.CANCEL:
        yield Cancelled("requested")
    elif verdict is Verdict.EXPIRE:
        yield Expired()


def model(name: str, size_bytes: int = 2**20) -> Model:
    return Model(id=name, kind="chat", directory="", size_bytes=size_bytes, created_at_s=0)


def scan(settings: Settings) -> Catalog:
    return Catalog(0, tuple(model(name) for name in ("alpha", "beta", "one", "two", "three")))


def loading(card: Card, model: Model) -> Generator[tuple[int, int], None, CountingModel]:
    memory = card.allocate(model.size_bytes)
    try:
        for done in range(1, FILES + 1):
            yield done, FILES
    except GeneratorExit:
        memory.close()
        raise
    return CountingModel(memory)


def fake_models() -> Models:
    return Models(scan, loading)
