"""Stands in for the models room: models that count, at a pace the job's metadata sets."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.settings import Settings, settings
from hardware.card import Buffer, Card
from tasks.board import Catalog, Model, PictureSize
from tasks.engines import Signals, Sketch, Verdict
from tasks.events import Cancelled, Embedded, Event, Expired, Finished, StepDone, TextDelta, Timings, Usage
from tasks.jobs import ChatJob, EmbedJob, FinishReason, ImageJob
from worker.boot import Models

FILES = 3
STUCK_AT = 3
"""The token at which a job whose metadata says ``stuck`` never returns from the card, the first time."""


@dataclass
class CountingModel:
    """Says ``0 1 2 …`` up to the job's ``max_tokens``; occupies card memory like a real one."""

    memory: Buffer
    context: int | None = 256
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
                self.memory.read(0, 1)
                time.sleep(step_s)
            if job.submission.metadata.get("stuck") and not emitted and number == STUCK_AT:
                with signals.calling_card(0.1):
                    time.sleep(600.0)
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


@dataclass
class PointingModel:
    """Gives every text the same direction."""

    memory: Buffer
    context: int | None = 16

    @property
    def size_bytes(self) -> int:
        return self.memory.size_bytes

    def embed(self, job: EmbedJob, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]:
        for index in range(len(emitted), len(job.inputs)):
            with signals.calling_card(5.0):
                self.memory.read(0, 1)
            yield Embedded(index, "AACAPw==", 1)
        yield Finished(FinishReason.STOP, Usage(len(job.inputs), 0), Timings())

    def trim(self) -> int:
        return 0

    def close(self) -> None:
        self.memory.close()


@dataclass
class PaintingModel:
    """Draws nothing in as many steps as it is told; each size it has takes card memory."""

    card: Card
    sizes: dict[PictureSize, Buffer] = field(default_factory=dict)
    context: int | None = None

    @property
    def size_bytes(self) -> int:
        return sum(buffer.size_bytes for buffer in self.sizes.values())

    def has(self, size: PictureSize) -> bool:
        return size in self.sizes

    def bring(self, size: PictureSize) -> Generator[tuple[int, int], None, None]:
        memory = self.card.allocate(size.width_px * size.height_px)
        yield 1, 1
        self.sizes[size] = memory

    def draw(self, job: ImageJob, signals: Signals, load_ms: float) -> Generator[Event, None, Sketch | None]:
        for step in range(1, job.steps + 1):
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                yield from _ending(verdict)
                return None
            with signals.calling_card(5.0):
                time.sleep(float(job.submission.metadata.get("step_ms", "0")) / 1000)
            yield StepDone(step, job.steps)
        if settings().data_dir.is_dir():
            with (settings().data_dir / "drawn").open("a") as drawn:
                drawn.write(f"{job.submission.id}\n")
        return DrySketch(job, load_ms)

    def trim(self) -> int:
        *others, _ = self.sizes
        freed = sum(self.sizes[size].size_bytes for size in others)
        for size in others:
            self.sizes.pop(size).close()
        return freed

    def close(self) -> None:
        while self.sizes:
            self.sizes.popitem()[1].close()


@dataclass
class DrySketch:
    """A picture without a file. The job's metadata say how long that takes."""

    job: ImageJob
    load_ms: float = 0.0

    @property
    def path(self) -> Path:
        return settings().data_dir / f"{self.job.submission.id}.sketch"

    def keep(self) -> None:
        self.path.touch()

    def finish(self) -> Finished:
        time.sleep(float(self.job.submission.metadata.get("file_ms", "0")) / 1000)
        return Finished(FinishReason.STOP, Usage(1, 0), Timings(load_ms=self.load_ms))

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


def find_sketch(job: ImageJob) -> Sketch | None:
    sketch = DrySketch(job)
    return sketch if sketch.path.exists() else None


def _ending(verdict: Verdict) -> Iterator[Event]:
    if verdict is Verdict.CANCEL:
        yield Cancelled("requested")
    elif verdict is Verdict.EXPIRE:
        yield Expired()


def model(name: str, size_bytes: int = 2**20) -> Model:
    return Model(id=name, kind="chat", directory="", size_bytes=size_bytes, created_at_s=0)


def scan(settings: Settings) -> Catalog:
    painter = Model(id="painter", kind="image", directory="", size_bytes=2**20, created_at_s=0)
    return Catalog(0, (*(model(name) for name in ("alpha", "beta", "one", "two", "three")), painter))


def loading(
    card: Card, model: Model, size: PictureSize | None
) -> Generator[tuple[int, int], None, CountingModel | PaintingModel | PointingModel]:
    if model.kind == "image" and size is not None:
        painting = PaintingModel(card)
        yield from painting.bring(size)
        return painting
    memory = card.allocate(model.size_bytes)
    try:
        for done in range(1, FILES + 1):
            yield done, FILES
    except GeneratorExit:
        memory.close()
        raise
    return PointingModel(memory) if model.kind == "embed" else CountingModel(memory)


def fake_models() -> Models:
    return Models(scan, loading, find_sketch)
