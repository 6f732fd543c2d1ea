"""Who owns the card: the process that raised its epoch last."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import redis

from config.settings import Settings
from tasks import keys, scripts, submit
from tasks.connection import replies
from tasks.jobs import JobKind

log = logging.getLogger("hearth.tasks.ownership")

forgotten = threading.Event()
"""Set when Redis lost its data, and with it who owns the card: only a new process can take it anew."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that owns a card, since ``epoch``."""

    card: str
    epoch: int
    redis: redis.Redis
    settings: Settings


_owner: Owner | None = None


def take_card(card_id: str, client: redis.Redis, settings: Settings, last_words: str = "") -> Owner:
    """Raise the card's epoch: every lease of an earlier owner goes back to the queue at once, with a strike.

    To be called by a process that holds the card's lock: the earlier owner is dead. ``last_words`` is what is
    known of its end; a job that runs out of strikes tells of it.
    """
    return _take_card(card_id, client, settings, last_words)[0]


def _take_card(
    card_id: str, client: redis.Redis, settings: Settings, last_words: str
) -> tuple[Owner, list[str]]:
    """The owner, and the jobs that went back to the queue, those whose turn it is first last."""
    queue = settings.queue
    ttl_ms = int(queue.journal_ttl_s * 1000)
    args = (card_id, keys.epoch(card_id), queue.max_strikes, ttl_ms, last_words)
    epoch, outcomes = scripts.run(client, "own", *args)
    given_back = []
    for raw_id, became in zip(outcomes[::2], outcomes[1::2], strict=True):
        job_id = raw_id.decode()
        log.warning("job %s had lost its worker (%s): %s", job_id, last_words or "unseen", became.decode())
        if became == b"queued":
            given_back.append(job_id)
    given_back.sort(
        key=lambda job_id: float(replies(client).hget(keys.job(job_id), "order") or 0), reverse=True
    )
    return Owner(card_id, int(epoch), client, settings), given_back


def become_owner(card_id: str, client: redis.Redis, settings: Settings, last_words: str = "") -> int:
    """``take_card`` for this process: ``claimed`` works from now on. Returns the epoch."""
    global _owner
    _owner, given_back = _take_card(card_id, client, settings, last_words)
    for job_id in given_back:
        _send_first(client, job_id)
    return _owner.epoch


def _send_first(client: redis.Redis, job_id: str) -> None:
    """Bring the message of a job that lost its worker to the head of its queue, where its place is.

    Its own message may be gone (a picture's is, once the card was done with it) or be held by the dead worker
    for a day; one too many is swallowed. What cannot be sent now, the reaper sends.
    """
    queue, kind = replies(client).hmget(keys.job(job_id), "queue", "kind")
    if queue is not None and submit.send(job_id, queue.decode(), JobKind(kind.decode())):
        scripts.run(client, "first", job_id, queue)


def current() -> Owner:
    """What ``become_owner`` made of this process. Raises RuntimeError before that."""
    if _owner is None:
        raise RuntimeError("a job before become_owner(): this process owns no card. This is a bug.")
    return _owner
