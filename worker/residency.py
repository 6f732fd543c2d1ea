"""Residency: which models are on the card. Loads on demand, keeps them, makes room; answers and draws."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import redis

from config.groups import ModelSettings
from hardware.card import Card, Mix
from hardware.errors import CardLost, CardTimeout, HardwareError, OutOfCardMemory
from models.boundary import translate
from tasks import board, keys
from tasks.board import PictureSize
from tasks.engines import Signals, Sketch
from tasks.errors import (
    CardUnavailable,
    JobError,
    LoadFailed,
    ModelUnusable,
    Shutdown,
    UnknownModel,
    Unsupported,
)
from tasks.events import Embedded, Event, Finished, Loading, Timings, Usage
from tasks.jobs import ChatJob, EmbedJob, FinishReason, ImageJob, JobKind, ModelJob
from worker.ledger import Ledger
from worker.loaded import Files, LoadedChat, LoadedModel, LoadedPictures, LoadedVectors, Loader

log = logging.getLogger("hearth.residency")

_EVENT_EVERY_S = 0.1
_PUBLISH_EVERY_S = 5.0
_PROBE_BYTES = 4096
_LOAD_PATIENCE_S = 60.0
_TRY_AGAIN_S = 0.2
_SLOWEST_LOAD_BYTES_S = 20_000_000
"""A load slower than this, once its patience is over, is a hang: the slowest link carries twenty times it."""

_RETURN_MS = 10_000
_MISSING_BYTES = 128 * 2**20
"""Less than that may be the runtime's own, or the account's inexactness."""

_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""

Made = TypeVar("Made")


@dataclass(slots=True)
class _Seat:
    name: str
    model: LoadedModel
    used_at_ms: int
    is_pinned: bool


class Residency:
    """Satisfies ``tasks.engines.ChatEngine``, ``ImageEngine`` and ``EmbedEngine``.

    All calls into the card come from the thread that runs jobs.
    """

    def __init__(
        self,
        card: Card,
        epoch: int,
        client: redis.Redis,
        scan: Callable[[], board.Catalog],
        load: Loader,
        is_stopping: Callable[[], bool],
        find_sketch: Callable[[ImageJob], Sketch | None] = lambda job: None,
        options: ModelSettings = ModelSettings(),  # noqa: B008  # frozen
    ) -> None:
        self._card = card
        self._epoch = epoch
        self._client = client
        self._scan = scan
        self._loader = load
        self._is_stopping = is_stopping
        self._find_sketch = find_sketch
        self._options = options
        self._seats: OrderedDict[str, _Seat] = OrderedDict()
        self._lock = threading.Lock()
        self._published_s = 0.0
        self._is_stale = False
        self._ledger = Ledger.going_on(client, card.info.id)
        self._publish_script = client.register_script(_PUBLISH)
        self.loading: str | None = None
        self.is_lost = False
        self.must_leave = False
        self._has_answered = False
        self._unloaded_ms: int | None = None

    def stream(self, job: ChatJob, *, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        """See ``ChatEngine``. A job that had to wait for its model finds the milliseconds in its timings."""
        with self._noticing_loss():
            seat, load_ms = yield from self._bring(job.model, None, signals)
            if not isinstance(seat.model, LoadedChat):
                raise Unsupported(f"{seat.name} does not answer chats", param="model")
            for event in seat.model.stream(job, emitted, signals):
                yield _with_load(event, load_ms) if isinstance(event, Finished) else event
            self._use(seat)

    def draw(self, job: ImageJob, *, signals: Signals) -> Generator[Event, None, Sketch | None]:
        """See ``ImageEngine``. A picture that an earlier attempt has drawn needs no card."""
        found = self._find_sketch(job)
        if found is not None:
            return found
        with self._noticing_loss():
            size = PictureSize(job.width_px, job.height_px)
            seat, load_ms = yield from self._bring(job.model, size, signals)
            if not isinstance(seat.model, LoadedPictures):
                raise Unsupported(f"{seat.name} does not draw pictures", param="model")
            sketch = yield from seat.model.draw(job, signals, load_ms)
            self._use(seat)
        return sketch

    def embed(self, job: EmbedJob, *, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]:
        """See ``EmbedEngine``."""
        with self._noticing_loss():
            seat, load_ms = yield from self._bring(job.model, None, signals)
            if not isinstance(seat.model, LoadedVectors):
                raise Unsupported(f"{seat.name} does not make embeddings", param="model")
            for event in seat.model.embed(job, emitted, signals):
                yield _with_load(event, load_ms) if isinstance(event, Finished) else event
            self._use(seat)

    def manage(self, job: ModelJob, *, signals: Signals) -> Iterator[Event]:
        """See ``ModelEngine``. What is there already, or gone already, is no fault."""
        load_ms = 0.0
        with self._noticing_loss():
            if job.action == "load":
                size = _first_size(self._usable(job.model))
                _, load_ms = yield from self._bring(job.model, size, signals)
            elif job.model in self._seats:
                self._unload(job.model, "because somebody asked for it")
        yield Finished(FinishReason.STOP, Usage(0, 0), Timings(load_ms=load_ms))

    def preload(self) -> None:
        """Load the models that the settings name, or else the chat model when there is exactly one.

        What goes wrong is only logged.
        """
        for model in self._wanted_first():
            try:
                with self._noticing_loss():
                    for _ in self._load(model, _first_size(model)):
                        pass
            except JobError as error:
                log.warning("could not load %s ahead of its first job: %s", model.id, error)
            except Shutdown:
                log.info("stopped while loading %s", model.id)
                return
            if self.is_lost:
                return

    def _wanted_first(self) -> list[board.Model]:
        catalog = self._scan()
        usable = [model for model in catalog.models if model.problem is None]
        wants_order = self._card.traits.mix is not Mix.FREE
        if not self._options.preload:
            chats = [model for model in usable if model.kind == JobKind.CHAT]
            # Where networks from ONNX must come first, a chat loaded ahead would cost the first of them a
            # fresh process.
            would_hinder = wants_order and any(_is_from_onnx(model) for model in usable)
            return chats if len(chats) == 1 and not would_hinder else []
        found = [catalog.find(name) for name in self._options.preload]
        for name, model in zip(self._options.preload, found, strict=True):
            if model not in usable:
                log.warning("models.preload names %s, which is not there or cannot be used", name)
        wanted = [model for model in found if model is not None and model in usable]
        return sorted(wanted, key=lambda model: not _is_from_onnx(model)) if wants_order else wanted

    def probe(self) -> None:
        """Send a page to the card and back; ``is_lost`` tells whether it was there."""
        with suppress(JobError, HardwareError), self._noticing_loss():
            buffer = self._card.allocate(_PROBE_BYTES)
            buffer.read(0, _PROBE_BYTES)
            buffer.close()

    def close(self) -> None:
        """Unload everything, the last used first. A lost card is left alone."""
        while self._seats:
            with self._lock:
                name, seat = self._seats.popitem()
            if not self.is_lost:
                with suppress(HardwareError):
                    seat.model.close()
                log.info("unloaded %s", name)

    @property
    def residents(self) -> tuple[str, ...]:
        """The models on the card, the least recently used first."""
        with self._lock:
            return tuple(self._seats)

    def publish(self) -> None:
        """Write what is on the card, unless the card has another owner by now. Raises redis.RedisError."""
        with self._lock:
            models = tuple(
                board.Resident(name, seat.model.size_bytes, seat.used_at_ms, seat.model.context)
                for name, seat in self._seats.items()
            )
            self._is_stale = False
        self._published_s = time.monotonic()
        info = self._card.info
        fact = board.Residents(
            epoch=self._epoch,
            card=info.id,
            name=info.name,
            firmware=info.firmware,
            bus_id=info.bus_id,
            is_virtual=info.is_virtual,
            memory_total_bytes=info.memory_bytes,
            models=models,
            left_ms=self._ledger.left_ms,
            load_ms=self._ledger.load_ms,
            pinned=tuple(name for name, seat in self._seats.items() if seat.is_pinned),
        )
        where = [keys.epoch(info.id), keys.residents(info.id)]
        self._publish_script(keys=where, args=[self._epoch, board.encode(fact)])

    def publish_when_stale(self) -> None:
        """Bring the times of last use up to date, seldom enough not to matter. Raises redis.RedisError."""
        if self._is_stale and time.monotonic() - self._published_s >= _PUBLISH_EVERY_S:
            self.publish()

    def _bring(
        self, name: str, size: PictureSize | None, signals: Signals
    ) -> Generator[Event, None, tuple[_Seat, float]]:
        """The seat of a model, with what pictures of ``size`` need, and the milliseconds that took."""
        started_s = time.monotonic()
        seat = self._seats.get(name)
        if seat is not None and not _lacks(seat, size):
            self._use(seat)
            return seat, 0.0
        model = self._usable(name)
        seat = self._seats.get(model.id)
        if seat is None or _lacks(seat, size):
            work = self._load(model, size) if seat is None else self._enlarge(seat, size)
            with signals.calling_card(_LOAD_PATIENCE_S + model.size_bytes / _SLOWEST_LOAD_BYTES_S):
                yield from _told(model.id, work)
        seat = self._seats[model.id]
        self._use(seat)
        return seat, (time.monotonic() - started_s) * 1000

    def compare_memory(self, reading: board.Telemetry | None) -> None:
        """After an unload: memory that a card has not given back comes back with the end of this process.

        Called between two jobs, with what the monitor read last.
        """
        if self._unloaded_ms is None or reading is None or reading.memory_free_bytes is None:
            return
        quiet_since_ms = max([self._unloaded_ms, *(seat.used_at_ms for seat in self._seats.values())])
        if reading.read_at_ms < quiet_since_ms + _RETURN_MS:
            return
        self._unloaded_ms = None
        missing_bytes = self._card.memory().free_bytes - reading.memory_free_bytes
        if missing_bytes > _MISSING_BYTES:
            log.error("the card did not give %d MiB back after an unload", missing_bytes // 2**20)
            self.must_leave = True

    def _mind_the_order(self, name: str, *, is_from_onnx: bool) -> None:
        """Some SDKs drop the card when a network from ONNX is loaded after layers of a language model.

        So a picture or embedding model that comes later waits for a process that has not loaded any. Raises
        Shutdown: this one leaves, and the job goes back to the queue without a strike.
        """
        if not is_from_onnx:
            self._has_answered = True
        elif self._has_answered and self._card.traits.mix is not Mix.FREE:
            log.info("%s is loaded by a fresh process: this one has loaded a language model", name)
            self.must_leave = True
            raise Shutdown

    def _usable(self, name: str) -> board.Model:
        model = self._scan().find(name)
        if model is None:
            raise UnknownModel(f"there is no model {name!r} on this worker", param="model")
        if model.problem is not None:
            raise ModelUnusable(f"{model.id}: {model.problem}", param="model")
        return model

    def _load(self, model: board.Model, size: PictureSize | None) -> Iterator[Files]:
        """Put a model on the card, and on a seat. Raises JobError."""
        started_s = time.monotonic()
        self._mind_the_order(model.id, is_from_onnx=_is_from_onnx(model))
        self._budget(model)
        loaded = yield from self._making_room(model.id, lambda: self._loader(self._card, model, size))
        with self._lock:
            is_pinned = model.keep_resident or model.id in self._options.pinned
            self._seats[model.id] = _Seat(model.id, loaded, _now_ms(), is_pinned)
            self._ledger.brought(model.id, time.monotonic() - started_s, self._seats, _now_ms())
        self._publish_quietly()
        mib = loaded.size_bytes / 2**20
        log.info("loaded %s: %.0f MiB in %.1f s", model.id, mib, time.monotonic() - started_s)

    def _budget(self, model: board.Model) -> None:
        """Make room before anything is loaded: what does not fit fails late, and on a real card badly.

        Raises:
            LoadFailed: it could not fit an empty card.
        """
        if model.needs_bytes is None:
            return
        margin_bytes = 0 if self._card.info.is_virtual else self._options.margin_mib << 20
        need_bytes = model.needs_bytes + margin_bytes
        if need_bytes > self._card.memory().total_bytes:
            raise LoadFailed(f"{model.id} needs {_mib(need_bytes)} of card memory, more than there is")
        while self._card.memory().free_bytes < need_bytes:
            if not self._trim() and not self._evict(but=model.id):
                return  # an estimate may be too high; the card has the last word

    def _enlarge(self, seat: _Seat, size: PictureSize | None) -> Iterator[Files]:
        """Load another size of a picture model that is on the card. Raises JobError."""
        pictures = seat.model
        if not isinstance(pictures, LoadedPictures) or size is None:
            return
        self._mind_the_order(seat.name, is_from_onnx=True)
        started_s = time.monotonic()
        yield from self._making_room(seat.name, lambda: pictures.bring(size))
        self._publish_quietly()
        log.info("loaded %s for %s pixels in %.1f s", seat.name, size, time.monotonic() - started_s)

    def _making_room(
        self, name: str, begin: Callable[[], Generator[Files, None, Made]]
    ) -> Generator[Files, None, Made]:
        """Load; while memory is short, trim residents, evict the oldest used, and then wait a while.

        What cannot fit was refused before: where there is nothing left to move, somebody else has the memory.
        Raises JobError.
        """
        give_up_s: float | None = None
        while True:
            try:
                return (yield from self._load_once(name, begin()))
            except (HardwareError, LoadFailed) as error:
                reason = error if isinstance(error, HardwareError) else error.__cause__
                if not isinstance(reason, OutOfCardMemory):
                    if isinstance(error, HardwareError):
                        raise translate(error) from error
                    raise
                if self._trim() or self._evict(but=name):
                    continue
                give_up_s = give_up_s or time.monotonic() + self._options.memory_patience_s
                if time.monotonic() >= give_up_s:
                    left = self._left_on(but=name)
                    message = f"{name} does not fit the card, even with {left} on it: {reason}"
                    raise LoadFailed(message) from error
            self._pause()

    def _pause(self) -> None:
        """A moment between two tries. Raises Shutdown."""
        if self._is_stopping():
            raise Shutdown
        time.sleep(_TRY_AGAIN_S)

    def _load_once(self, name: str, load: Generator[Files, None, Made]) -> Generator[Files, None, Made]:
        self.loading = name
        try:
            return (yield from self._between_files(load))
        finally:
            load.close()
            self.loading = None

    def _between_files(self, load: Generator[Files, None, Made]) -> Generator[Files, None, Made]:
        while True:
            if self._is_stopping():
                raise Shutdown
            try:
                progress = next(load)
            except StopIteration as end:
                made: Made = end.value
                return made
            yield progress

    def _trim(self) -> bool:
        """Have all residents give back what they can do without. False: there was nothing."""
        freed_bytes = sum([seat.model.trim() for seat in self._seats.values()])
        if freed_bytes:
            log.info("residents gave back %.0f MiB to make room", freed_bytes / 2**20)
            self._is_stale = True
        return freed_bytes > 0

    def _evict(self, but: str) -> bool:
        """Unload the model not used for longest, ``but`` and pinned ones aside. False: there is none."""
        movable = (name for name, seat in self._seats.items() if name != but and not seat.is_pinned)
        oldest = next(movable, None)
        if oldest is None:
            return False
        self._unload(oldest, "to make room")
        return True

    def _unload(self, name: str, why: str) -> None:
        with self._lock:
            seat = self._seats.pop(name)
        seat.model.close()
        log.info("unloaded %s %s", name, why)
        self._unloaded_ms = _now_ms()
        self._publish_quietly()

    def _left_on(self, but: str) -> str:
        pinned = [name for name in self._seats if name != but]
        return f"only {' and '.join(pinned)}, which are pinned," if pinned else "nothing else"

    def _use(self, seat: _Seat) -> None:
        with self._lock:
            seat.used_at_ms = _now_ms()
            self._seats.move_to_end(seat.name)
            self._is_stale = True

    def _publish_quietly(self) -> None:
        try:
            self.publish()
        except redis.RedisError as error:
            self._is_stale = True
            log.warning("could not tell Redis what is on the card: %s", error)

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """After a lost card nothing in this process may touch its library: the child leaves after the job."""
        try:
            yield
        except (CardLost, CardTimeout, CardUnavailable) as error:
            self.is_lost = True
            log.error("the card is lost: %s", error)
            raise translate(error) if isinstance(error, HardwareError) else error from error


def _lacks(seat: _Seat, size: PictureSize | None) -> bool:
    """Whether a picture model on the card cannot draw ``size`` yet."""
    return size is not None and isinstance(seat.model, LoadedPictures) and not seat.model.has(size)


def _is_from_onnx(model: board.Model) -> bool:
    """Whether its graphs were compiled from whole ONNX networks, not layer by layer."""
    return model.kind in (JobKind.IMAGE, JobKind.EMBED)


def _first_size(model: board.Model) -> PictureSize | None:
    """The size that a picture model is loaded for when nobody has said which."""
    return model.pictures.sizes[0] if model.pictures is not None and model.pictures.sizes else None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"


def _told(name: str, work: Iterator[Files]) -> Iterator[Loading]:
    """The progress of a load as events, few enough not to matter."""
    told_s = float("-inf")
    for done, total in work:
        if time.monotonic() - told_s >= _EVENT_EVERY_S or done == total:
            told_s = time.monotonic()
            yield Loading(name, done, total)


def _with_load(event: Finished, load_ms: float) -> Finished:
    return replace(event, timings=replace(event.timings, load_ms=load_ms))


def _now_ms() -> int:
    return int(time.time() * 1000)
