"""Repair: what a dead process, a lost message, a passed deadline or the years leave behind."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from config.settings import Settings
from tasks import keys, scripts, submit
from tasks.connection import AWAY, replies
from tasks.jobs import JobKind
from tasks.retention import SWEEP_EVERY_S, Retention

log = logging.getLogger("hearth.tasks.reaper")

MESSAGE_GRACE_S = 10.0
"""A waiting job whose message is in no queue for this long has lost it. Redelivery after a crash takes 5 s.
"""
FULL_LOOK_S = 60.0
"""How often every message of every queue is looked at; in between only their number is."""
_AT_ONCE = 100
"""Jobs of one kind of repair in one beat, so that Redis is never kept busy for long."""
_JUMP_SHARE = 0.25
"""A change of the wall clock against the monotonic one by this share of a lease is a jump."""
_CHUNK = 500
_ID_IN_MESSAGE = re.compile(rb'"id": ?"(job_[0-9a-f]+)"')

Send = Callable[[str, str, JobKind], bool]


@dataclass(slots=True)
class ReapReport:
    """What one beat did, by job id. ``waiting`` says why it did nothing."""

    requeued: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    deserted: list[str] = field(default_factory=list)
    resent: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    jumped_ms: int = 0
    waiting: str | None = None


class Reaper:
    """Call ``beat`` every few seconds from one process; never two of them on one Redis.

    It acts only after it has seen Redis up, and the wall clock steady, for one whole lease: after an outage
    the workers come first, and a clock that jumps (a Pi has no battery for it) expires nothing.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        retention: Retention | None = None,
        send: Send = submit.send,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], float] | None = None,
    ) -> None:
        self._redis = replies(client)
        self._queue = settings.queue
        self._retention = retention or Retention(client, settings)
        self._send = send
        self._monotonic = monotonic
        self._wall_ms = wall_ms or self._redis_ms
        self._steady_since: float | None = None
        self._beaten_at = float("-inf")
        self._ahead_ms: float | None = None
        self._clock_since_ms = 0.0
        self._looked_at = float("-inf")
        self._swept_at = float("-inf")

    def beat(self) -> ReapReport:
        """One round of repairs. Never raises for a Redis that is away: that is what it waits for."""
        report = ReapReport()
        try:
            report.jumped_ms = self._watch_clock()
            report.waiting = self._why_wait()
            if report.waiting is None:
                self._reap(report)
                self._resend(report)
                self._retire(report)
        except AWAY as error:
            self._steady_since = None
            report.waiting = f"Redis is away: {error}"
        return report

    def _redis_ms(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds * 1000 + micros / 1000)

    def _watch_clock(self) -> int:
        """Compare the wall clock with the monotonic one; when it jumped, move every stamp along."""
        lease_s = self._queue.lease_s
        before = self._monotonic()
        wall_ms = self._wall_ms()
        now = self._monotonic()
        if now - self._beaten_at > lease_s or self._steady_since is None:
            self._steady_since = now
        self._beaten_at = now
        ahead_ms = wall_ms - (before + now) / 2 * 1000
        known_ms, self._ahead_ms = self._ahead_ms, ahead_ms
        if known_ms is None:
            self._clock_since_ms = wall_ms
            return 0
        if abs(ahead_ms - known_ms) < lease_s * 1000 * _JUMP_SHARE:
            return 0
        jump_ms = round(ahead_ms - known_ms)
        wrong_ms = (int(self._clock_since_ms), int(wall_ms - jump_ms))
        moved = scripts.run(self._redis, "restamp", jump_ms, int(lease_s * 1000), *wrong_ms)
        self._clock_since_ms += jump_ms
        log.warning("the clock jumped by %.1f s: %s jobs moved along", jump_ms / 1000, moved)
        self._steady_since = now
        return jump_ms

    def _why_wait(self) -> str | None:
        steady_s = self._beaten_at - (self._steady_since or self._beaten_at)
        if steady_s < self._queue.lease_s:
            return f"steady for {steady_s:.0f} of {self._queue.lease_s:.0f} s"
        return None

    def _reap(self, report: ReapReport) -> None:
        queue = self._queue
        outcomes = scripts.run(
            self._redis,
            "reap",
            queue.max_strikes,
            int(queue.journal_ttl_s * 1000),
            int(queue.reader_grace_s * 1000),
            _AT_ONCE,
        )
        told = {
            "queued": report.requeued,
            "failed": report.failed,
            "cancelled": report.cancelled,
            "expired": report.expired,
            "deserted": report.deserted,
        }
        for became, job_id in zip(outcomes[::2], outcomes[1::2], strict=True):
            told[became.decode()].append(job_id.decode())
            log.warning("job %s: %s", job_id.decode(), became.decode())
        for job_id in report.requeued:
            self._send_again(job_id, report)

    def _resend(self, report: ReapReport) -> None:
        """Send again what waits without a message in its queue.

        A message that a dead worker holds unacknowledged is not in the queue: it would come back only after
        the visibility timeout. A message too many is swallowed by the claim.
        """
        look = self._monotonic() - self._looked_at >= FULL_LOOK_S
        if look:
            self._looked_at = self._monotonic()
        old_ms = self._wall_ms() - MESSAGE_GRACE_S * 1000
        ready = set(self._redis.zrangebyscore(keys.READY, "-inf", old_ms))
        for name in self._redis.smembers(keys.QUEUES) if ready else ():
            queue = name.decode()
            waiting = [one for one in self._redis.zrange(keys.queue(queue), 0, -1) if one in ready]
            if waiting and (look or self._redis.llen(queue) < len(waiting)):
                sent = self._messages(queue)
                for job_id in waiting:
                    if job_id not in sent and not self._send_again(job_id.decode(), report):
                        return

    def _messages(self, queue: str) -> set[bytes]:
        """The ids of all jobs with a message in the queue."""
        found: set[bytes] = set()
        start = 0
        # New messages come in at the left: what shifts between two reads is seen twice, not missed.
        while chunk := self._redis.lrange(queue, start, start + _CHUNK - 1):
            for message in chunk:
                found.update(_ID_IN_MESSAGE.findall(message))
            start += len(chunk)
        return found

    def _send_again(self, job_id: str, report: ReapReport) -> bool:
        queue, kind = self._redis.hmget(keys.job(job_id), "queue", "kind")
        if queue is None:
            return True
        if not self._send(job_id, queue.decode(), JobKind(kind.decode())):
            return False
        scripts.run(self._redis, "resent", job_id)
        report.resent.append(job_id)
        log.info("message of %s sent again", job_id)
        return True

    def _retire(self, report: ReapReport) -> None:
        """Forget jobs that are old enough; now and then, look at the files as well."""
        report.forgotten += self._retention.retire(self._wall_ms())
        if self._monotonic() - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = self._monotonic()
            forgotten, report.swept = self._retention.sweep()
            report.forgotten += forgotten
