"""From a batch's ended jobs to its files: a line for every request, of the answer or of what went wrong.

Made of the input file and of records alone, so that it can be made again, to the same bytes, by whoever comes
after a process that died over it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, BinaryIO

from redis.exceptions import RedisError

from api.bulk.lines import Line, TooLong, checked_before
from api.bulk.reading import lines
from api.context import Context
from api.errors import Problem, of_end
from api.openai.endpoints import ENDPOINTS, Ended
from api.request_id import problem_of
from tasks import keys, records
from tasks.bulks import Bulk, Counts, NewFile, Outcome, Used, Which
from tasks.connection import replies
from tasks.documents import DocumentStore
from tasks.errors import NotReady
from tasks.events import Cancelled, Expired, Failed
from tasks.jobs import JobId, JobState
from tasks.records import JobRecord

_AT_ONCE = 20
"""Requests whose records are read in one trip, and whose lines are written together."""

_LOST = Problem("internal_error", "what became of this request is no longer known")
_CANCELLED = {
    "code": "batch_cancelled",
    "message": "This request was not executed: the batch was cancelled before.",
}
_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a file that a batch comes to, and what it counts for."""

    is_good: bool
    line: dict[str, Any]
    used: Used


async def write(shared: Context, bulk: Bulk) -> tuple[list[NewFile], Outcome]:
    """Write the files of a batch that is being finalized; those that have a line, and what they sum up to.

    Raises:
        FileNotFoundError, ValueError, KeyError, TypeError: the input file is no longer there, or no longer
            what it was.
        NotReady, RedisError: what they are made of cannot be read now.
        OSError: something keeps them from the disk, the want of room for one.
    """
    if bulk.output_id is None or bulk.error_id is None:
        raise ValueError(f"{bulk.id} is not being finalized. This is a bug.")
    store = DocumentStore(shared.settings.data_dir)
    async with _open(store, bulk.output_id) as output, _open(store, bulk.error_id) as errors:
        outcome = Outcome(Counts(len(bulk.sizes)))
        async for some in _told(shared, bulk):
            # A picture's line is half a megabyte: it becomes JSON beside the loop, not on it.
            await asyncio.to_thread(_append, output, errors, some)
            outcome = reduce(_with, some, outcome)
        sizes: dict[Which, int] = {
            "output": await asyncio.to_thread(_settled, store, bulk.output_id, output),
            "error": await asyncio.to_thread(_settled, store, bulk.error_id, errors),
        }
    keep_s = bulk.order.output_keep_s
    return [
        NewFile(which, f"{bulk.id}_{which}.jsonl", size_bytes, keep_s)
        for which, size_bytes in sizes.items()
        if size_bytes
    ], outcome


@asynccontextmanager
async def _open(store: DocumentStore, document_id: str) -> AsyncIterator[BinaryIO]:
    file = await asyncio.to_thread(store.begin, document_id)
    try:
        yield file
    finally:
        await asyncio.to_thread(store.abandon, file)


def _settled(store: DocumentStore, document_id: str, file: BinaryIO) -> int:
    """The size, in bytes, of what is on the disk under its name now; of nothing there is no file."""
    size_bytes = file.tell()
    if size_bytes:
        store.settle(document_id, file)
    return size_bytes


def _append(output: BinaryIO, errors: BinaryIO, told: Sequence[Told]) -> None:
    for each in told:
        line = json.dumps(each.line, ensure_ascii=False, separators=(",", ":"))
        (output if each.is_good else errors).write(line.encode() + b"\n")


def _with(outcome: Outcome, told: Told) -> Outcome:
    counts, used, more = outcome.counts, outcome.used, told.used
    return Outcome(
        replace(
            counts,
            completed=counts.completed + told.is_good,
            failed=counts.failed + (not told.is_good),
        ),
        Used(
            used.input_tokens + more.input_tokens,
            used.cached_tokens + more.cached_tokens,
            used.output_tokens + more.output_tokens,
            used.reasoning_tokens + more.reasoning_tokens,
        ),
    )


async def _told(shared: Context, bulk: Bulk) -> AsyncIterator[list[Told]]:
    """What is to be told of every line of the input file, in their order, some at a time."""
    ids = [JobId(raw.decode()) for raw in await replies(shared.redis).zrange(keys.batch(bulk.id), 0, -1)]
    each_ids = _shared_out(ids, bulk.sizes)
    waiting: list[tuple[Line, Sequence[JobId]]] = []
    async for raw in lines(shared, bulk, sys.maxsize - 1):
        if not isinstance(raw, TooLong):
            waiting.append((checked_before(*raw), next(each_ids, ())))
        if len(waiting) == _AT_ONCE:
            yield await _told_of(shared, bulk, waiting)
            waiting = []
    yield await _told_of(shared, bulk, waiting)


def _shared_out(ids: Sequence[JobId], sizes: Sequence[int]) -> Iterator[Sequence[JobId]]:
    """The jobs of each line."""
    at = 0
    for size in sizes:
        yield ids[at : at + size]
        at += size


async def _told_of(shared: Context, bulk: Bulk, asked: Sequence[tuple[Line, Sequence[JobId]]]) -> list[Told]:
    wanted = [job_id for _, ids in asked for job_id in ids]
    found = await records.fetch_many(shared.redis, wanted)
    known = {record.id: record for record in found if isinstance(record, JobRecord)}
    told = []
    for line, ids in asked:
        mine = [known[job_id] for job_id in ids if job_id in known]
        told.append(await _told_of_one(shared, bulk, line, ids, mine))
        # Of thousands of lines, each is a moment in which others are served.
        await asyncio.sleep(0)
    return told


async def _told_of_one(
    shared: Context, bulk: Bulk, line: Line, ids: Sequence[JobId], found: Sequence[JobRecord]
) -> Told:
    used = _used(found)
    if not ids or len(found) != len(ids):
        return Told(False, _line(bulk, line, _response(ids, _LOST)), used)
    unhappy = [record for record in found if record.state is not JobState.SUCCEEDED]
    if unhappy:
        # One that failed says more than those that were given up with it.
        first = min(unhappy, key=lambda record: record.state is not JobState.FAILED)
        return Told(False, _unhappy(bulk, line, first), used)
    try:
        ended = Ended(line.body, found, bulk.order.base_url, shared)
        body = await ENDPOINTS[bulk.order.endpoint].tell(ended)
    except (NotReady, RedisError, OSError):
        raise
    except (
        Exception
    ) as error:  # a picture that is gone; what nobody foresaw, too, is this line's affair alone
        return Told(False, _line(bulk, line, _response(ids, problem_of(error, ids[0]))), used)
    return Told(True, _line(bulk, line, {"status_code": 200, "request_id": ids[0], "body": body}), used)


def _unhappy(bulk: Bulk, line: Line, record: JobRecord) -> dict[str, Any]:
    end = record.ending()
    if isinstance(end, Expired):
        return _line(bulk, line, None, _EXPIRED)
    if isinstance(end, Cancelled) and bulk.was_cancelled:
        return _line(bulk, line, None, _CANCELLED)
    problem = of_end(end) if isinstance(end, Failed | Cancelled) else _LOST
    return _line(bulk, line, _response([record.id], problem))


def _response(ids: Sequence[JobId], problem: Problem) -> dict[str, Any]:
    request_id = ids[0] if ids else None
    return {"status_code": problem.form.status, "request_id": request_id, "body": problem.envelope()}


def _line(
    bulk: Bulk, line: Line, response: dict[str, Any] | None, error: dict[str, str] | None = None
) -> dict[str, Any]:
    digest = hashlib.sha256(f"{bulk.id} {line.number}".encode()).hexdigest()
    return {
        "id": f"batch_req_{digest[:32]}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }


def _used(found: Sequence[JobRecord]) -> Used:
    usages = [record.usage for record in found if record.usage is not None]
    return Used(
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
    )
