"""Responses that are kept: found by id, and told as far as they have come, from the journal or the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.context import Context
from api.errors import Refusal
from api.openai.faults import invalid
from api.openai.responses import ids
from api.openai.responses.body import terms_of
from api.openai.responses.items import input_items
from api.openai.responses.telling import Telling
from tasks import journal, keys, records
from tasks.events import Event, Queued, ReasoningDelta, Started, TextDelta, ToolCall, is_terminal
from tasks.jobs import AsResponse, ChatJob, JobId, JobState, Message
from tasks.journal import Entry
from tasks.records import JobRecord

_PREVIOUS = "previous_response_id"


class Kept:
    """A response that has a record, and the words of it that do not change."""

    def __init__(self, record: JobRecord, job: ChatJob) -> None:
        self.record = record
        self.job = job

    @property
    def terms(self) -> AsResponse:
        return terms_of(self.job)


async def find(shared: Context, owner: str, response_id: str, param: str | None = None) -> Kept:
    """The stored response with this id.

    Raises:
        Refusal: this key has none, or its record is from another version.
    """
    job_id = ids.job_of(response_id)
    found = None if job_id is None else await _of_job(shared, owner, job_id)
    if found is None:
        where = "" if param is None else f"'{param}': "
        raise Refusal(
            "response_not_found",
            f"{where}there is no response {response_id[:60]!a} here: it may have been deleted, not been "
            "stored, or its job be kept no longer",
            param,
        )
    return found


async def _of_job(shared: Context, owner: str, job_id: JobId) -> Kept | None:
    try:
        record = await records.fetch(shared.redis, job_id)
    except ValueError:
        raise Refusal("job_unreadable", "another version of Hearth wrote this response") from None
    if record is None or record.job.submission.owner != owner or not isinstance(record.job, ChatJob):
        return None
    if record.job.response is None or not record.job.response.is_stored:
        return None
    return Kept(record, record.job)


async def standing(shared: Context, job: ChatJob) -> dict[str, Any]:
    """The response as it is now. Raises Refusal when its job is kept no longer."""
    telling = Telling(job)
    for entry in await journal.read_async(shared.redis, job.submission.id):
        telling.tell(entry.event, await at_ms(shared, job, entry))
    if telling.has_begun:
        return telling.response()
    record = await records.fetch(shared.redis, job.submission.id)
    if record is None:
        raise Refusal("response_not_found", "the response is kept no longer")
    return of_record(record, job)


def of_record(record: JobRecord, job: ChatJob) -> dict[str, Any]:
    """The response as the record alone has it: without probabilities."""
    telling = Telling(job)
    replay(telling, record)
    return telling.response()


def replay(telling: Telling, record: JobRecord) -> list[dict[str, Any]]:
    """The events of a response whose journal is gone, made once more from the record."""
    ended_at_ms = record.ended_at_ms or 0
    return [told for event in _events_of(record) for told in telling.tell(event, ended_at_ms)]


def _events_of(record: JobRecord) -> Iterator[Event]:
    yield Queued(attempt=0)
    if record.started_at_ms is not None:
        yield Started(record.attempt, record.card or "")
    if record.reasoning:
        yield ReasoningDelta(record.reasoning, ())
    if record.text:
        yield TextDelta(record.text, ())
    for index, call in enumerate(record.calls):
        yield ToolCall(index, call.id, call.name, call.arguments, ())
    ending = record.ending()
    if ending is not None:
        yield ending


async def at_ms(shared: Context, job: ChatJob, entry: Entry) -> int:
    """When it was journalled, by Redis' clock. An end by the record's: a later reader has nothing else."""
    if is_terminal(entry.event):
        ended_at = await shared.redis.hget(keys.job(job.submission.id), "ended_at")
        if ended_at is not None:
            return int(ended_at)
    return int(entry.id.partition("-")[0])


async def conversation(shared: Context, owner: str, previous: str) -> tuple[JobId, tuple[Message, ...]]:
    """All that a response was told and has answered: what the next one goes on from.

    The job of a response holds the whole conversation, so that it does not matter what became of those
    before it. Raises Refusal.
    """
    kept = await find(shared, owner, previous, _PREVIOUS)
    record, job = kept.record, kept.job
    if not record.state.is_terminal:
        raise invalid(_PREVIOUS, f"the id of a response that has ended; this one is {_word_of(record)}")
    if record.state is not JobState.SUCCEEDED:
        raise invalid(
            _PREVIOUS,
            f"the id of a response that has an answer, this one has {record.state.value}: go on from the one "
            "before it, or send the conversation as 'input'",
        )
    said = Message("assistant", record.text or "", record.calls, reasoning=record.reasoning)
    heard = job.messages[1:] if kept.terms.has_instructions else job.messages
    return job.submission.id, (*heard, said)


def _word_of(record: JobRecord) -> str:
    return "queued" if record.state is JobState.QUEUED else "in_progress"


async def resolved(shared: Context, owner: str, items: Sequence[Any]) -> list[Any]:
    """``items`` with those in place of references that they refer to. Raises Refusal."""
    told: list[Any] = []
    standings: dict[tuple[JobId, ids.Side], dict[str, Any]] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not _is_reference(item):
            told.append(item)
            continue
        where = f"input[{index}].id"
        name = item.get("id")
        place = ids.place_of(name) if isinstance(name, str) else None
        if place is not None and (place.job_id, place.side) not in standings:
            standings[place.job_id, place.side] = await _items_at(shared, owner, place)
        found = None if place is None else standings[place.job_id, place.side].get(str(name))
        if found is None:
            raise Refusal(
                "response_not_found",
                f"'{where}': there is no item {str(name)[:60]!a} here: its response may have been deleted, "
                "not been stored, or be kept no longer; send the item itself",
                where,
            )
        told.append(found)
    return told


def _is_reference(item: dict[str, Any]) -> bool:
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


async def _items_at(shared: Context, owner: str, place: ids.ItemPlace) -> dict[str, Any]:
    kept = await _of_job(shared, owner, place.job_id)
    if kept is None:
        return {}
    found = input_items(kept.job) if place.side == "i" else (await standing(shared, kept.job))["output"]
    return {item["id"]: item for item in found}
