"""Residency: which models are on the card. Loads on demand, keeps them, makes room; answers chat jobs."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import redis

from hardware.card import Card
from hardware.errors import CardLost, CardTimeout, HardwareError, OutOfCardMemory
from models.boundary import translate
from tasks import board, keys
from tasks.engines import Signals
from tasks.errors import CardUnavailable, JobError, LoadFailed, ModelUnusable, Shutdown, UnknownModel
from tasks.events import Event, Finished, Loading
from tasks.jobs import ChatJob

log = logging.getLogger("hearth.residency")

_EVENT_EVERY_S = 0.1
_PUBLISH_EVERY_S = 5.0
_LOAD_PATIENCE_S = 60.0
_SLOWEST_LOAD_BYTES_S = 20_000_000
"""A load slower than this, once its patience is over, is a hang: the slowest link carries twenty times it."""

_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class LoadedModel(Protocol):
    """A model on the card, ready to answer."""

    @property
    def context(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    def stream(self, job: ChatJob, emitted: Sequence[int], signals: Signals) -> Iterator[Event]: ...

    def trim(self) -> int:
        """Give back card memory that only saves time; how many bytes that were."""
        ...

    def close(self) -> None: ...


Loader = Callable[[Card, board.Model], Generator[tuple[int, int], None, LoadedModel]]
"""Puts a model on the card, yielding (files done, files in all) after each; returns it loaded.

Raises HardwareError or JobError and leaves nothing behind; so it does when it is closed half-way.
"""


@dataclass(slots=True)
class _Seat:
    name: str
    model: LoadedModel
    used_at_ms: int


class Residency:
    """Satisfies ``tasks.engines.ChatEngine``. All calls into the card come from the thread that runs jobs."""

    def __init__(
        self,
        card: Card,
        epoch: int,
        client: redis.Redis,
        scan: Callable[[], board.Catalog],
        load: Loader,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._card = card
        self._epoch = epoch
        self._client = client
        self._scan = scan
        self._load = load
        self._is_stopping = is_stopping
        self._seats: OrderedDict[str, _Seat] = OrderedDict()
        self._lock = threading.Lock()
        self._published_s = 0.0
        self._is_stale = False
        self._publish_script = client.register_script(_PUBLISH)
        self.loading: str | None = None
        self.is_lost = False

    def stream(self, job: ChatJob, *, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        """See ``ChatEngine``. A job that had to wait for its model finds the milliseconds in its timings."""
        started_s = time.monotonic()
        with self._noticing_loss():
            was_resident = job.model in self._seats
            seat = yield from self._bring(job.model, signals)
            load_ms = 0.0 if was_resident else (time.monotonic() - started_s) * 1000
            self._use(seat)
            for event in seat.model.stream(job, emitted, signals):
                yield _with_load(event, load_ms) if isinstance(event, Finished) else event
            self._use(seat)

    def preload(self) -> None:
        """Load the chat model when there is exactly one that can be used; what goes wrong is only logged."""
        usable = [model for model in self._scan().models if model.kind == "chat" and model.problem is None]
        if len(usable) != 1:
            return
        try:
            with self._noticing_loss():
                for _ in self._load_making_room(usable[0]):
                    pass
        except JobError as error:
            log.warning("could not load %s ahead of its first job: %s", usable[0].id, error)
        except Shutdown:
            log.info("stopped while loading %s", usable[0].id)

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
        )
        where = [keys.epoch(info.id), keys.residents(info.id)]
        self._publish_script(keys=where, args=[self._epoch, board.encode(fact)])

    def publish_when_stale(self) -> None:
        """Bring the times of last use up to date, seldom enough not to matter. Raises redis.RedisError."""
        if self._is_stale and time.monotonic() - self._published_s >= _PUBLISH_EVERY_S:
            self.publish()

    def _bring(self, name: str, signals: Signals) -> Generator[Event, None, _Seat]:
        if name in self._seats:
            return self._seats[name]
        model = self._scan().find(name)
        if model is None:
            raise UnknownModel(f"there is no model {name!r} on this worker", param="model")
        if model.problem is not None:
            raise ModelUnusable(f"{model.id}: {model.problem}", param="model")
        if model.id in self._seats:
            return self._seats[model.id]
        told_s = float("-inf")
        with signals.calling_card(_LOAD_PATIENCE_S + model.size_bytes / _SLOWEST_LOAD_BYTES_S):
            for done, total in self._load_making_room(model):
                if time.monotonic() - told_s >= _EVENT_EVERY_S or done == total:
                    told_s = time.monotonic()
                    yield Loading(model.id, done, total)
        return self._seats[model.id]

    def _load_making_room(self, model: board.Model) -> Iterator[tuple[int, int]]:
        """Load; while memory is short, trim residents, then evict the oldest used. Raises JobError."""
        while True:
            try:
                yield from self._load_once(model)
                return
            except (HardwareError, LoadFailed) as error:
                reason = error if isinstance(error, HardwareError) else error.__cause__
                if isinstance(reason, OutOfCardMemory) and self._seats:
                    if not self._trim():
                        self._evict()
                elif isinstance(reason, OutOfCardMemory):
                    raise LoadFailed(
                        f"{model.id} does not fit the card, even with nothing else on it: {reason}"
                    ) from error
                elif isinstance(error, HardwareError):
                    raise translate(error) from error
                else:
                    raise

    def _load_once(self, model: board.Model) -> Iterator[tuple[int, int]]:
        started_s = time.monotonic()
        self.loading = model.id
        load = self._load(self._card, model)
        try:
            loaded = yield from self._between_files(load)
        finally:
            load.close()
            self.loading = None
        with self._lock:
            self._seats[model.id] = _Seat(model.id, loaded, _now_ms())
        self._publish_quietly()
        mib = loaded.size_bytes / 2**20
        log.info("loaded %s: %.0f MiB in %.1f s", model.id, mib, time.monotonic() - started_s)

    def _between_files(
        self, load: Generator[tuple[int, int], None, LoadedModel]
    ) -> Generator[tuple[int, int], None, LoadedModel]:
        while True:
            if self._is_stopping():
                raise Shutdown
            try:
                progress = next(load)
            except StopIteration as end:
                loaded: LoadedModel = end.value
                return loaded
            yield progress

    def _trim(self) -> bool:
        """Have all residents give back what they can do without. False: there was nothing."""
        freed_bytes = sum([seat.model.trim() for seat in self._seats.values()])
        if freed_bytes:
            log.info("residents gave back %.0f MiB to make room", freed_bytes / 2**20)
            self._is_stale = True
        return freed_bytes > 0

    def _evict(self) -> None:
        with self._lock:
            name, seat = self._seats.popitem(last=False)
        seat.model.close()
        log.info("unloaded %s to make room", name)
        self._publish_quietly()

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


def _with_load(event: Finished, load_ms: float) -> Finished:
    return replace(event, timings=replace(event.timings, load_ms=load_ms))


def _now_ms() -> int:
    return int(time.time() * 1000)
