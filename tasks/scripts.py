"""The Lua behind every change of state: one file per script, run whole or not at all by Redis.

Scripts name their keys themselves, from the table ``K`` that is generated from ``tasks.keys`` and put before
each of them (one Redis, no cluster: Celery's transport knows none either). Events with fixed words are the
table ``E``. Every script may be repeated without harm: a reply may be lost after the work was done.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import NoScriptError

from tasks import events, keys

_DIRECTORY = Path(__file__).parent / "lua"

_KEYS = {
    "jobs": keys.JOBS,
    "ready": keys.READY,
    "queues": keys.QUEUES,
    "leases": keys.LEASES,
    "ended": keys.ENDED,
    "brief": keys.BRIEF,
    "files": keys.FILES,
    "filed": keys.FILED,
    "deadlines": keys.DEADLINES,
    "watched": keys.WATCHED,
    "counts": keys.COUNTS,
    "rates": keys.RATES,
    "owned": keys.OWNED,
    "eta_errors": keys.ETA_ERRORS,
    "pauses": keys.PAUSES,
    "cards": keys.CARDS,
    "clock": keys.CLOCK,
    "documents": keys.DOCUMENTS,
    "document_bytes": keys.DOCUMENT_BYTES,
    "bulks": keys.BULKS,
    "outbox": keys.OUTBOX,
    "posted": keys.POSTED,
    "gone_endpoints": keys.GONE_ENDPOINTS,
    "alive": keys.ALIVE,
    "job": keys.job(""),
    "journal": keys.journal(""),
    "reader": keys.reader(""),
    "queue": keys.queue(""),
    "owner": keys.owner(""),
    "batch": keys.batch(""),
    "document": keys.document(""),
    "documents_of": keys.documents_of(""),
    "bulk": keys.bulk(""),
    "bulks_of": keys.bulks_of(""),
    "spent": keys.spent(""),
    "batch_hooks": keys.batch_hooks(""),
    "batch_letters": keys.batch_letters(""),
    "delivery": keys.delivery(""),
    "endpoints": keys.endpoints(""),
}

_EVENTS: dict[str, events.Event] = {
    "queued": events.Queued(attempt=0),
    "requested": events.Cancelled(reason="requested"),
    "no_reader": events.Cancelled(reason="no_reader"),
    "expired": events.Expired(),
    "worker_lost": events.Failed(
        code="worker_lost",
        message="the worker process died under this job more often than allowed",
        retryable=True,
    ),
}


def _table(name: str, entries: dict[str, str]) -> str:
    rows = ",".join(f"{key}=[=[{value}]=]" for key, value in entries.items())
    return f"local {name} = {{{rows}}}\n"


@lru_cache(maxsize=1)
def _prelude() -> str:
    words = {key: events.encode(event).decode() for key, event in _EVENTS.items()}
    return _table("K", _KEYS) + _table("E", words) + (_DIRECTORY / "common.lua").read_text()


@lru_cache(maxsize=64)
def source(name: str) -> str:
    """The whole text of one script. Its ``#!`` line, which tells Redis the flags, stays the first."""
    text = (_DIRECTORY / f"{name}.lua").read_text()
    shebang, body = text.split("\n", 1)
    return f"{shebang}\n{_prelude()}{body}"


@lru_cache(maxsize=64)
def _sha(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def run(client: redis.Redis, name: str, *args: bytes | str | float) -> Any:
    """Run a script; a Redis that does not know it (a restart) is taught it."""
    try:
        return client.evalsha(_sha(name), 0, *args)
    except NoScriptError:
        return client.eval(source(name), 0, *args)


async def run_async(client: redis.asyncio.Redis, name: str, *args: bytes | str | float) -> Any:
    """Like ``run``, on the event loop."""
    try:
        return await client.evalsha(_sha(name), 0, *args)
    except NoScriptError:
        return await client.eval(source(name), 0, *args)
