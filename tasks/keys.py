"""Every key Hearth keeps in Redis. Celery's own keys (queues, unacked, bindings) are not among them."""

from __future__ import annotations

from tasks.jobs import JobId

PREFIX = "hearth:"

JOBS = PREFIX + "jobs"
"""ZSET of all job ids by creation time, ms: listing and retention."""
READY = PREFIX + "ready"
"""ZSET of queued job ids by the time their message was last sent, ms: what a lost message is repaired from.
"""
QUEUES = PREFIX + "queues"
"""SET of the names of all queues that have ever held a job."""
LEASES = PREFIX + "leases"
"""ZSET of running job ids by lease expiry, ms."""
ENDED = PREFIX + "ended"
"""ZSET of ended job ids by the time they ended, ms: retention takes the oldest first."""
BRIEF = PREFIX + "brief"
"""ZSET of those ended job ids whose records are forgotten soon, by the time they ended, ms: who asked for
vectors on the line has them by now, and text and vector of a whole library would fill the memory.
"""
FILES = PREFIX + "files"
"""HASH file, as its path below the data directory → how many jobs' records refer to it."""
FILED = PREFIX + "filed"
"""ZSET of those ended job ids whose records refer to files, by the time they ended, ms."""
DEADLINES = PREFIX + "deadlines"
"""ZSET of the ids of jobs that have not ended by their deadline, ms."""
WATCHED = PREFIX + "watched"
"""SET of the ids of jobs that have not ended and are cancelled when nobody reads them."""
CLOCK = PREFIX + "clock"
"""STRING: Redis' time, ms, when the reaper last vouched that the clock is steady."""
COUNTS = PREFIX + "counts"
"""HASH class → jobs queued or running: the admission caps."""
OWNED = PREFIX + "owned"
"""HASH owner → jobs queued or running: the cap per key."""
RATES = PREFIX + "rates"
"""HASH queue → exponentially weighted mean run time of one job, ms, without loading and rests: Retry-After
and ETA.
"""
ETA_ERRORS = PREFIX + "eta_errors"
"""LIST, newest first: by which share of its whole time the end that a job was told of was off."""
WINDOWS = PREFIX + "rates"
"""What the keys of the ``limits`` library begin with: the requests of each owner within the last minute."""
CATALOG = PREFIX + "catalog"
"""STRING JSON, no TTL: the packages found, published by the monitor."""
CARDS = PREFIX + "cards"
"""SET of the ids of all cards that have ever had a worker."""
MONITOR = PREFIX + "monitor"
"""STRING with TTL: when the monitor last did its rounds, ms. Absent: there is no monitor."""
DOCUMENTS = PREFIX + "documents"
"""ZSET of the ids of all files of ``/v1/files`` by when they are to go, ms."""
DOCUMENT_BYTES = PREFIX + "document_bytes"
"""INT: the bytes of all of them."""
BULKS = PREFIX + "bulks"
"""ZSET of the ids of the batches of ``/v1/batches`` that have not ended, by creation time, ms."""
PAUSES = PREFIX + "pauses"
"""HASH scope (``class.model``, ``*`` for any) → JSON: what an operator has paused."""
THRESHOLDS = PREFIX + "thresholds"
"""STRING JSON, no TTL: the thermal settings that an operator changed while Hearth ran."""
OUTBOX = PREFIX + "outbox"
"""ZSET of the ids of deliveries that are still to be made, by when they are next due, ms."""
POSTED = PREFIX + "posted"
"""STREAM: something was put into the outbox, or is due at another time; who delivers waits here."""
GONE_ENDPOINTS = PREFIX + "endpoints:gone"
"""HASH id of an endpoint whose receiver has answered 410 → when, ms: nothing is sent there any more."""
HOOK_SECRETS = PREFIX + "hook_secrets"
"""HASH owner → the secret that webhooks are signed with which a job names by their address."""
ALIVE = PREFIX + "alive"
"""HASH batch → its announced jobs that are queued or running."""
WAKE = PREFIX + "wake"
"""STREAM: API processes write here to end their own blocking read when a new reader comes."""
WAKE_QUIET = PREFIX + "wake:quiet"
"""The same for the read of journals where nothing happens."""


def job(job_id: JobId | str) -> str:
    """HASH: the job's record."""
    return f"{PREFIX}job:{job_id}"


def journal(job_id: JobId | str) -> str:
    """STREAM: the job's events; field ``e`` is one JSON event, the stream id is the SSE id."""
    return f"{PREFIX}journal:{job_id}"


def reader(job_id: JobId | str) -> str:
    """STRING with TTL: somebody reads the job's journal."""
    return f"{PREFIX}reader:{job_id}"


def queue(name: str) -> str:
    """ZSET of the queued job ids of one queue in the order of service (the score is when they became ready,
    ms).
    """
    return f"{PREFIX}queue:{name}"


def owner(owner_id: str) -> str:
    """ZSET of the job ids of one owner by creation time, ms."""
    return f"{PREFIX}owner:{owner_id}"


def batch(batch_id: str) -> str:
    """ZSET of the job ids of one batch by creation time, ms."""
    return f"{PREFIX}batch:{batch_id}"


def document(document_id: str) -> str:
    """HASH: one file of ``/v1/files``, without its bytes."""
    return f"{PREFIX}document:{document_id}"


def documents_of(owner_id: str) -> str:
    """ZSET of the ids of the files of one owner by creation time, ms."""
    return f"{PREFIX}documents:{owner_id}"


def bulk(batch_id: str) -> str:
    """HASH: what ``/v1/batches`` tells of a batch. Its jobs are those of ``batch``."""
    return f"{PREFIX}bulk:{batch_id}"


def bulks_of(owner_id: str) -> str:
    """ZSET of the ids of the batches of ``/v1/batches`` of one owner by creation time, ms."""
    return f"{PREFIX}bulks:{owner_id}"


def clerk(batch_id: str) -> str:
    """STRING with TTL: an API process is at work on this batch."""
    return f"{PREFIX}clerk:{batch_id}"


def spent(owner_id: str) -> str:
    """LIST with TTL, newest first: ``ended at ms, tokens`` of the owner's jobs of the last minute."""
    return f"{PREFIX}spent:{owner_id}"


def batch_hooks(batch_id: str) -> str:
    """SET of the addresses that are told when all jobs of a batch have ended."""
    return f"{PREFIX}batch_hooks:{batch_id}"


def batch_letters(batch_id: str) -> str:
    """LIST of the ids of the deliveries that tell so."""
    return f"{PREFIX}batch_letters:{batch_id}"


def delivery(delivery_id: str) -> str:
    """HASH: one event on its way to one address."""
    return f"{PREFIX}delivery:{delivery_id}"


def endpoints(owner_id: str) -> str:
    """HASH id → JSON: the endpoints that an owner has registered, with the secrets they are signed with."""
    return f"{PREFIX}endpoints:{owner_id}"


def idempotency(owner_id: str, key_sha256: str) -> str:
    """STRING with TTL: ``job id`` and body hash of the first request that carried this key."""
    return f"{PREFIX}idempotency:{owner_id}:{key_sha256}"


def a1111_options(owner_id: str) -> str:
    """HASH option → JSON: what this owner's clients of A1111's API have set."""
    return f"{PREFIX}a1111:options:{owner_id}"


def calls(owner_id: str) -> str:
    """HASH id → JSON of the requests through A1111's API that were still going when somebody last looked."""
    return f"{PREFIX}a1111:calls:{owner_id}"


def past_calls(owner_id: str) -> str:
    """LIST of the ids of those that ended lately, newest first."""
    return f"{PREFIX}a1111:past:{owner_id}"


def epoch(card_id: str) -> str:
    """INT: raised by every process that takes the card."""
    return f"{PREFIX}card:{card_id}:epoch"


def hold(card_id: str) -> str:
    """STRING JSON: why the card is held now, since when. Absent: it is not."""
    return f"{PREFIX}card:{card_id}:hold"


def ease(card_id: str) -> str:
    """STRING JSON with TTL: the share of the time the card may work. Absent: all of it."""
    return f"{PREFIX}card:{card_id}:ease"


def lost(card_id: str) -> str:
    """STRING JSON: the card's process says that the card is lost. Absent: nobody does."""
    return f"{PREFIX}card:{card_id}:lost"


def history(card_id: str) -> str:
    """LIST JSON, newest first: one point for each minute of the last day."""
    return f"{PREFIX}card:{card_id}:history"


def telemetry(card_id: str) -> str:
    """STRING JSON with TTL: the last reading of the card's health."""
    return f"{PREFIX}card:{card_id}:telemetry"


def residents(card_id: str) -> str:
    """STRING JSON: what is loaded, written by the child under its epoch."""
    return f"{PREFIX}card:{card_id}:residents"


def heartbeat(card_id: str) -> str:
    """STRING JSON with TTL: the child lives; in which call since when."""
    return f"{PREFIX}card:{card_id}:heartbeat"
