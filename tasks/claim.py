"""The right to run a job: lease, token, journal, and exactly one terminal event."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import RedisError

from tasks import events, jobs, journal, keys, outcome, scripts
from tasks.connection import AWAY
from tasks.engines import Verdict
from tasks.errors import CardGone, CardUnavailable, Internal, JobError, QueueAway, Shutdown
from tasks.events import Delta, Embedded, Event, Failed, Loading, StepDone, Terminal
from tasks.jobs import ChatJob, EmbedJob, Job, JobId, JobState
from tasks.made import Made
from tasks.ownership import Owner, current, forgotten
from tasks.scribe import RETRY_S, Scribe, Token, beat_s
from tasks.signals import JobSignals, pace, stopping

Answer = TypeVar("Answer")

log = logging.getLogger("hearth.tasks.claim")

CLOCK_WORD_S = 60.0
"""How old the reaper's word that the clock is steady may be for a deadline to count."""
LAST_WORDS_S = 5.0
"""How long a process that is told to stop tries to reach a Redis that does not answer."""
_current: Claim | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What this process is at: the job it runs, and the call into the card it is in."""

    job_id: JobId
    call_since_ms: int | None
    call_limit_s: float | None


def activity() -> Activity | None:
    """None while no job runs. For the heartbeat; callable from any thread."""
    claim = _current
    if claim is None:
        return None
    return Activity(claim.job.submission.id, claim.signals.call_since_ms, claim.signals.call_limit_s)


class Claim:
    """One attempt at a job. ``emitted`` are the token ids that former attempts journalled, ``embedded`` the
    vectors.

    ``is_handed_over``: another thread brings the job to its end, and keeps its lease until then.
    ``is_settled``: Redis knows how the attempt ended.
    """

    def __init__(self, owner: Owner, token: Token, job: Job, left_ms: int | None) -> None:
        entries = journal.read(owner.redis, token.job_id) if token.attempt > 1 else []
        self.job = job
        self.token = token
        self._made = journal.made(entries)
        self.emitted: Sequence[int] = tuple(self._made.token_ids)
        self.embedded: Sequence[Embedded] = tuple(self._made.embedded)
        self._progress = ""
        self._owner = owner
        self._scribe = Scribe(owner.redis, token, owner.card, owner.settings, beat_s(job.kind))
        deadline = None if left_ms is None else time.monotonic() + left_ms / 1000
        self.signals = JobSignals(self._scribe, deadline, owner.settings.queue.redis_patience_s)
        self.ended = False
        self.is_handed_over = False
        self.is_settled = False

    def append(self, event: Event) -> None:
        """Journal an event of the engine's; a terminal one ends the job there and then.

        Returns at once for all but a terminal event. After the lease is lost, events go nowhere.
        """
        if self.ended:
            raise RuntimeError("an event after the terminal one. This is a bug.")
        if isinstance(event, Terminal):
            self.end(event)
            return
        if isinstance(event, Delta):
            self._made.add(event)
            most = self.job.sampling.max_tokens if isinstance(self.job, ChatJob) else None
            self._progress = outcome.tokens(len(self._made.token_ids), most)
        elif isinstance(event, Loading):
            self._progress = outcome.files(event)
        elif isinstance(event, StepDone):
            self._progress = outcome.steps(event)
        elif isinstance(event, Embedded) and isinstance(self.job, EmbedJob):
            self._made.add(event)
            self._progress = outcome.inputs(event, self.job)
        self._scribe.append(event, self._progress)

    def end(self, event: Terminal) -> None:
        """Write the terminal event and the record. Silent when the job is no longer ours."""
        self.ended = True
        self._scribe.stop()
        orders = self._scribe.orders
        if orders.lost:
            return
        event = outcome.true_ending(event, orders.cancel)
        first, pending = self._scribe.pending()
        fields = outcome.record_fields(event, self._made, self._progress)
        fields += ["rested_ms", str(int(self.signals.rested_s * 1000))]
        token = self.token
        self._insist(
            "finish",
            token.job_id,
            token.epoch,
            token.attempt,
            outcome.state_after(event).value,
            events.encode(event),
            int(self._owner.settings.queue.journal_ttl_s * 1000),
            first,
            len(pending),
            *pending,
            *fields,
        )

    def fail(self, event: Failed) -> None:
        """End the job with a fault, unless it has ended: what goes wrong behind the last word is logged."""
        if not self.ended:
            self.end(event)

    def give_back(self, reason: str) -> None:
        """Put the job back in the queue without a strike, what was said so far included."""
        self.ended = True
        self._scribe.stop()
        if self._scribe.orders.lost:
            return
        first, pending = self._scribe.pending()
        token, ttl_s = self.token, self._owner.settings.queue.journal_ttl_s
        self._insist(
            "give_back",
            token.job_id,
            token.epoch,
            token.attempt,
            reason,
            int(ttl_s * 1000),
            first,
            *pending,
        )

    def hand_over(self) -> None:
        """The rest of the job needs no card: whoever took it ends it within ``ending``, then releases it."""
        self.is_handed_over = True

    def release(self) -> None:
        """Renew the lease no longer. Releasing twice is harmless."""
        self._scribe.stop()

    def unwanted(self) -> Terminal | None:
        """The end of a job that somebody has cancelled; None while it is wanted."""
        cancel = self._scribe.orders.cancel
        return None if cancel is None else outcome.of_verdict(Verdict.CANCEL, cancel)

    def lose_card(self) -> bool:
        """Put the job back in the queue because its card is lost. False: that has happened too often."""
        self._scribe.stop()
        if self._scribe.orders.lost:
            self.ended = True
            return True
        first, pending = self._scribe.pending()
        token, queue = self.token, self._owner.settings.queue
        reply = self._insist(
            "lose_card",
            token.job_id,
            token.epoch,
            token.attempt,
            queue.max_card_losses,
            int(queue.journal_ttl_s * 1000),
            first,
            *pending,
        )
        self.ended = reply != b"spent"
        return self.ended

    def others_wait(self) -> bool:
        """Whether the queue holds work for this card or another. False when Redis does not say."""
        try:
            return bool(self._owner.redis.zcard(keys.READY))
        except (*AWAY, RedisError):
            return False

    def end_unsaid(self) -> None:
        """End a job whose engine left without a terminal event."""
        if self._scribe.orders.lost:
            self.ended = True
            self._scribe.stop()
        elif self.signals.outage:
            self.give_back("queue_away")
            raise QueueAway
        else:
            ending = outcome.of_verdict(self.signals.verdict(), self._scribe.orders.cancel)
            if ending is None:
                raise Internal("the engine ended without a result")
            self.end(ending)

    def _insist(self, script: str, *args: bytes | str | float) -> Any:
        """Repeat until Redis answers: without it there is no other work. Not for ever while stopping."""
        give_up_at: float | None = None
        refused_until = time.monotonic() + self._owner.settings.queue.redis_patience_s
        while True:
            try:
                reply = scripts.run(self._owner.redis, script, *args)
                self.is_settled = True
                return reply
            except (*AWAY, RedisError) as error:
                # A full disk refuses writes for a while; what is refused for longer is refused for good.
                if not isinstance(error, AWAY) and time.monotonic() > refused_until:
                    raise
                if stopping.is_set():
                    give_up_at = give_up_at or time.monotonic() + LAST_WORDS_S
                    if time.monotonic() > give_up_at:
                        log.error("job %s: no %s, Redis is away: %s", self.token.job_id, script, error)
                        return None
                time.sleep(RETRY_S)


@contextmanager
def claimed(job_id: JobId, owner: Owner | None = None) -> Iterator[Claim | None]:
    """Take the job's lease; yield None when it cannot or need not be run here.

    On exit there is exactly one terminal event: the engine's own, or ``Failed`` for an error, or whatever the
    last verdict demands. An ``Interrupt`` gives the job back without a strike and goes on upwards. Who has
    lost the lease stays silent.

    Raises:
        Shutdown: the process was told to stop, its card is lost, or Redis has ``forgotten`` it.
        QueueAway: Redis has been away for too long; the job is queued again, or was not taken.
    """
    claim = _take(owner or current(), job_id)
    if claim is None:
        yield None
        return
    with _at_work(claim), ending(claim):
        yield claim


@contextmanager
def ending(claim: Claim) -> Iterator[None]:
    """See to it that the job ends here, exactly once, or is handed over or given back. See ``claimed``."""
    try:
        yield
        if not claim.ended and not claim.is_handed_over:
            claim.end_unsaid()
    except CardUnavailable as error:
        if not claim.ended and claim.lose_card():
            raise CardGone from error
        claim.fail(outcome.failed(error))
    except JobError as error:
        claim.fail(outcome.failed(error))
    except Exception as error:
        claim.fail(outcome.internal(error, claim.token.job_id))
    except BaseException as interrupt:
        if not claim.ended:
            claim.give_back(interrupt.reason if isinstance(interrupt, Shutdown) else Shutdown.reason)
        raise


@contextmanager
def _at_work(claim: Claim) -> Iterator[None]:
    global _current
    claim._scribe.start()
    _current = claim
    pace.begin(time.monotonic())
    try:
        yield
    finally:
        pace.end(time.monotonic())
        _current = None
        if not claim.is_handed_over:
            claim.release()


def _take(owner: Owner, job_id: JobId) -> Claim | None:
    queue = owner.settings.queue
    args: list[Any] = [
        job_id,
        owner.card,
        owner.epoch,
        keys.epoch(owner.card),
        int(queue.lease_s * 1000),
        secrets.token_hex(8),
        int(queue.reader_grace_s * 1000),
        int(queue.journal_ttl_s * 1000),
        int(CLOCK_WORD_S * 1000),
    ]
    reply = _patiently(owner, lambda: scripts.run(owner.redis, "claim", *args))
    if reply[0] == b"forgotten":
        log.error("Redis has lost its data: a new process has to take the card")
        forgotten.set()
        raise Shutdown
    if reply[0] != b"claimed":
        log.info("message for %s swallowed: %s", job_id, reply[0].decode())
        return None
    token = Token(job_id, owner.epoch, int(reply[1]))
    left_ms = None if reply[3] == b"" else int(reply[3])
    try:
        job = jobs.decode(reply[2])
    except ValueError as error:
        # Written by a version that this one does not understand.
        fault = outcome.internal(error, job_id)
        end = (token.job_id, token.epoch, token.attempt, JobState.FAILED.value, events.encode(fault))
        fields = outcome.record_fields(fault, Made(), "")
        scripts.run(owner.redis, "finish", *end, int(queue.journal_ttl_s * 1000), 1, 0, *fields)
        return None
    return _patiently(owner, lambda: Claim(owner, token, job, left_ms))


def _patiently(owner: Owner, act: Callable[[], Answer]) -> Answer:
    give_up_at = time.monotonic() + owner.settings.queue.redis_patience_s
    while True:
        try:
            return act()
        except AWAY as error:
            if stopping.is_set():
                raise Shutdown from error
            if time.monotonic() > give_up_at:
                raise QueueAway from error
            time.sleep(RETRY_S)
