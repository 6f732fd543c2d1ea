"""The side thread of one running job: it writes the journal, renews the lease and asks what is wanted.

The engine's thread never waits for the network: what it appends is buffered here, and what it asks was asked
for it a moment ago.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import redis

from config.settings import Settings
from tasks import board, events, keys, scripts
from tasks.connection import AWAY
from tasks.events import Delta, Event, ReasoningDelta, TextDelta
from tasks.jobs import JobId, JobKind
from tasks.made import joined

log = logging.getLogger("hearth.tasks.scribe")

BEAT_S = 0.25
"""Time between two questions to Redis: how soon a running job learns that it was cancelled or is to rest."""
PICTURE_BEAT_S = 0.1
"""The same for a picture, whose steps are long: what is learnt late costs one more of them."""
RETRY_S = 0.25
"""Pause before Redis is tried again after it did not answer."""


def beat_s(kind: JobKind) -> float:
    """How often a job of this kind asks what is wanted of it."""
    return min(BEAT_S, PICTURE_BEAT_S) if kind is JobKind.IMAGE else BEAT_S


@dataclass(frozen=True, slots=True)
class Token:
    """The right to write for a job: void as soon as the job is claimed anew or given back."""

    job_id: JobId
    epoch: int
    attempt: int


@dataclass(slots=True)
class Orders:
    """What Redis said last."""

    lost: bool = False
    cancel: str | None = None
    hold: board.Hold | None = None
    ease: board.Ease | None = None
    heard_at: float = field(default_factory=time.monotonic)


class Scribe:
    """Buffers a job's events and keeps its lease. ``append`` is for one thread, the engine's."""

    def __init__(
        self, client: redis.Redis, token: Token, card: str, settings: Settings, beat_s: float
    ) -> None:
        self._redis = client
        self._beat_s = beat_s
        self._token = token
        self._hold_key = keys.hold(card)
        self._ease_key = keys.ease(card)
        self._queue = settings.queue
        self._coalesce_s = settings.queue.coalesce_ms / 1000
        self._wake = threading.Condition()
        self._pending: list[bytes] = []
        self._first = 1  # the number of pending[0] among the attempt's events
        self._deltas: list[TextDelta | ReasoningDelta] = []
        self._halves: list[Delta] = []
        self._progress = ""
        self._flushed_at = float("-inf")
        self._flush_at: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"scribe-{token.job_id[-6:]}", daemon=True)
        self.orders = Orders()
        self.call_deadline: float | None = None
        """Monotonic time by which the current call into the card must be back: past it the lease is not
        renewed.
        """

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is still pending stays with ``pending``. Stopping twice is harmless."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def append(self, event: Event, progress: str = "") -> None:
        """Take an event. The first text goes out at once, later text within the coalescing time.

        A delta without token ids shares its tokens with the event behind it, so it is written with that one.
        """
        with self._wake:
            if progress:
                self._progress = progress
            if isinstance(event, Delta) and not event.token_ids:
                self._halves.append(event)
                return
            due = self._now_or_soon(event)
            if self._flush_at is None or due < self._flush_at:
                self._flush_at = due
                self._wake.notify_all()

    def _now_or_soon(self, event: Event) -> float:
        """Put an event behind the others; when they are to be written."""
        now, halves = time.monotonic(), self._halves
        self._halves = []
        for each in (*halves, event):
            if isinstance(each, TextDelta | ReasoningDelta):
                self._deltas.append(each)
            else:
                self._seal()
                self._pending.append(events.encode(each))
        return now if not self._deltas else max(now, self._flushed_at + self._coalesce_s)

    def pending(self) -> tuple[int, list[bytes]]:
        """The number of the first event not yet written, and the events from there. Only after ``stop``."""
        with self._wake:
            self._seal()
            return self._first, [*self._pending, *map(events.encode, self._halves)]

    def wait(self, timeout_s: float) -> None:
        """Wait for news: returns after the next answer of Redis, or when the time is up."""
        with self._wake:
            self._wake.wait(timeout_s)

    def _seal(self) -> None:
        deltas, self._deltas = self._deltas, []
        self._pending.extend(events.encode(delta) for delta in joined(deltas))

    def _run(self) -> None:
        # The claim has just renewed the lease, and the gate lets nothing through while the card is held.
        beat_at = time.monotonic() + self._beat_s
        while True:
            with self._wake:
                now = time.monotonic()
                while not self._stopping and now < min(beat_at, self._due()):
                    self._wake.wait(min(beat_at, self._due()) - now)
                    now = time.monotonic()
                if self._stopping or self.orders.lost:
                    return
                batch = self._take(now)
            try:
                if batch is not None:
                    self._write(*batch)
                if now >= beat_at:
                    self._ask()
                    beat_at = now + self._beat_s
            except Exception as error:
                # Whatever it is, a dead thread would leave the job without lease, journal and orders.
                if not isinstance(error, AWAY):
                    log.exception("job %s: Redis refuses", self._token.job_id)
                self._wait_for_redis(error)
                beat_at = time.monotonic()

    def _due(self) -> float:
        return float("inf") if self._flush_at is None else self._flush_at

    def _take(self, now: float) -> tuple[int, list[bytes], str] | None:
        if now < self._due():
            return None
        self._flush_at = None
        self._flushed_at = now
        self._seal()
        return self._first, list(self._pending), self._progress

    def _write(self, first: int, batch: list[bytes], progress: str) -> None:
        token = self._token
        mine = scripts.run(
            self._redis, "append", token.job_id, token.epoch, token.attempt, first, progress, *batch
        )
        with self._wake:
            if not mine:
                self.orders.lost = True
            del self._pending[: len(batch)]
            self._first += len(batch)
            self.orders.heard_at = time.monotonic()
            if self.orders.lost:
                self._wake.notify_all()

    def _ask(self) -> None:
        token, deadline = self._token, self.call_deadline
        in_time = deadline is None or time.monotonic() <= deadline
        reply = scripts.run(
            self._redis,
            "beat",
            token.job_id,
            token.epoch,
            token.attempt,
            int(self._queue.lease_s * 1000),
            int(in_time),
            int(self._queue.reader_grace_s * 1000),
            self._hold_key,
            self._ease_key,
        )
        with self._wake:
            if reply[0] == 0:
                self.orders.lost = True
            else:
                self.orders.cancel = reply[1].decode() or None
                self.orders.hold = board.decode(board.Hold, reply[2] or None)
                self.orders.ease = board.decode(board.Ease, reply[3] or None)
            self.orders.heard_at = time.monotonic()
            self._wake.notify_all()

    def _wait_for_redis(self, error: Exception) -> None:
        silent_s = time.monotonic() - self.orders.heard_at
        log.warning("job %s goes on without Redis for %.0f s: %s", self._token.job_id, silent_s, error)
        with self._wake:
            if self._pending or self._deltas:
                self._flush_at = time.monotonic()
            if not self._stopping:
                self._wake.wait_for(lambda: self._stopping, RETRY_S)
