"""``/v1/batches``: a file of requests, answered by a file."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import auth, context
from api.bulk.clerk import Clerk
from api.context import Context
from api.errors import Refusal
from api.limits import read_json
from api.openai.endpoints import ENDPOINTS
from api.openai.file_schemas import (
    BatchFault,
    BatchFaults,
    BatchLinks,
    BatchRequest,
    BatchUsage,
    CachedTokens,
    OpenAIBatch,
    OpenAIBatchList,
    ReasoningTokens,
    RequestCounts,
)
from api.openai.request import validated
from api.respond import as_json, body_schema, errors
from api.terms import checked_metadata
from tasks import batches, bulks
from tasks.bulks import Bulk, BulkState, Counts, LineFault, Opened, Order, Used
from tasks.jobs import new_batch_id

router = APIRouter(prefix="/v1/batches", tags=["OpenAI"])

_BATCH_ID = re.compile(r"batch_[0-9a-f]{40}")


@router.post(
    "",
    response_model=OpenAIBatch,
    responses=errors(400, 404, 413, 415, 429, 503),
    openapi_extra=body_schema(BatchRequest),
    operation_id="create_batch",
)
async def create(request: Request) -> Response:
    """Answer the requests of a file: all of them are queued, behind everybody who waits, or none.

    Each line of the file is `{"custom_id", "method": "POST", "url", "body"}`, with a `url` that is the
    `endpoint` and a body as that takes it. It is checked as the endpoint would: if a line is at fault the
    batch becomes `failed`, and `errors` tells why. Its end comes without anybody asking for it.
    """
    shared = context.of(request)
    _, value = await read_json(request)
    fields = validated(BatchRequest, value)
    if fields.endpoint not in ENDPOINTS:
        known = ", ".join(ENDPOINTS)
        raise Refusal("unsupported_value", f"'endpoint' should be one of {known}", "endpoint")
    keep_s = shared.settings.queue.file_retention_s
    if fields.output_expires_after is not None:
        keep_s = min(keep_s, fields.output_expires_after.seconds)
    order = Order(
        fields.endpoint,
        fields.completion_window,
        str(request.base_url).rstrip("/"),
        keep_s,
        None if fields.metadata is None else checked_metadata(fields.metadata, shared.settings.limits),
    )
    bulk_id, owner = new_batch_id(), auth.owner(request)
    opened = await bulks.open_bulk(shared.redis, bulk_id, owner, fields.input_file_id, order, shared.settings)
    _refuse(opened, fields.input_file_id, shared)
    clerk: Clerk = request.app.state.clerk
    clerk.call()
    return as_json(await told(shared, await _owned(request, shared, bulk_id)))


def _refuse(opened: Opened, file_id: str, shared: Context) -> None:
    """Raises Refusal for a batch that was not begun."""
    match opened:
        case Opened.NO_FILE:
            raise Refusal("file_not_found", f"there is no file {file_id[:60]!a} here", "input_file_id")
        case Opened.PURPOSE:
            message = "'input_file_id' should be a file that was sent with the purpose 'batch'"
            raise Refusal("invalid_value", message, "input_file_id")
        case Opened.TOO_MANY:
            most = shared.settings.limits.batches_per_key
            raise Refusal("queue_full", f"your key has {most} batches that have not ended: wait for one")


@router.get("", response_model=OpenAIBatchList, responses=errors(400, 503), operation_id="list_batches")
async def index(
    request: Request,
    after: Annotated[str | None, Query(description="The `last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Batches on a page.")] = 20,
) -> Response:
    """Your batches, newest first."""
    shared = context.of(request)
    try:
        page = await bulks.page(shared.redis, auth.owner(request), after=after, limit=limit)
    except KeyError:
        raise Refusal("invalid_value", "'after' is not the id of one of your batches", "after") from None
    data = [await told(shared, bulk) for bulk in page.bulks]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return as_json(OpenAIBatchList(data=data, first_id=first, last_id=last, has_more=page.has_more))


@router.get(
    "/{batch_id}", response_model=OpenAIBatch, responses=errors(404, 503), operation_id="retrieve_batch"
)
async def show(request: Request, batch_id: str) -> Response:
    """How a batch stands."""
    shared = context.of(request)
    return as_json(await told(shared, await _owned(request, shared, batch_id)))


@router.post(
    "/{batch_id}/cancel",
    response_model=OpenAIBatch,
    responses=errors(404, 503),
    operation_id="cancel_file_batch",
)
async def stop(request: Request, batch_id: str) -> Response:
    """Cancel what has not been answered. What has been is in the output file all the same. A batch that has
    ended stays as it is."""
    shared = context.of(request)
    bulk = await _owned(request, shared, batch_id)
    if not bulk.state.is_terminal:
        await batches.cancel(shared.redis, bulk.id, shared.settings)
        shared.board.forget()
        clerk: Clerk = request.app.state.clerk
        clerk.call()
    return as_json(await told(shared, await _owned(request, shared, batch_id)))


async def _owned(request: Request, shared: Context, batch_id: str) -> Bulk:
    """Raises Refusal when there is no such batch for this key."""
    found = await bulks.fetch(shared.redis, batch_id) if _BATCH_ID.fullmatch(batch_id) else None
    if found is None or found.owner != auth.owner(request):
        raise Refusal("batch_not_found", f"there is no batch {batch_id[:60]!a} here")
    return found


async def told(shared: Context, bulk: Bulk) -> OpenAIBatch:
    """A batch as its owner sees it."""
    ends = bulk.state.is_terminal
    at = bulk.times_ms
    return OpenAIBatch(
        id=bulk.id,
        endpoint=bulk.order.endpoint,
        model=bulk.model,
        errors=BatchFaults(data=[_fault(each) for each in bulk.faults]) if bulk.faults else None,
        input_file_id=bulk.input_id,
        completion_window=bulk.order.window,
        status=bulk.state,
        output_file_id=bulk.output_id if ends else None,
        error_file_id=bulk.error_id if ends else None,
        created_at=bulk.created_at_ms // 1000,
        expires_at=bulk.expires_at_ms // 1000,
        in_progress_at=_seconds(at.get(BulkState.IN_PROGRESS)),
        finalizing_at=_seconds(at.get(BulkState.FINALIZING)),
        completed_at=_seconds(at.get(BulkState.COMPLETED)),
        failed_at=_seconds(at.get(BulkState.FAILED)),
        expired_at=_seconds(at.get(BulkState.EXPIRED)),
        cancelling_at=_seconds(at.get(BulkState.CANCELLING)),
        cancelled_at=_seconds(at.get(BulkState.CANCELLED)),
        request_counts=_counts(await _standing(shared, bulk)),
        usage=None if bulk.outcome is None else _usage(bulk.outcome.used),
        metadata=None if bulk.order.metadata is None else dict(bulk.order.metadata),
        hearth=BatchLinks(jobs=f"/v1/jobs?batch={bulk.id}", progress=f"/v1/jobs/batches/{bulk.id}"),
    )


async def _standing(shared: Context, bulk: Bulk) -> Counts:
    if bulk.outcome is not None:
        return bulk.outcome.counts
    if bulk.state in (BulkState.VALIDATING, BulkState.FAILED, BulkState.EXPIRED, BulkState.CANCELLED):
        return Counts(len(bulk.sizes))
    return bulks.tally(bulk.sizes, await bulks.states(shared.redis, bulk.id))


def _counts(counts: Counts) -> RequestCounts:
    return RequestCounts(total=counts.total, completed=counts.completed, failed=counts.failed)


def _fault(fault: LineFault) -> BatchFault:
    return BatchFault(code=fault.code, line=fault.line, message=fault.message, param=fault.param)


def _usage(used: Used) -> BatchUsage:
    return BatchUsage(
        input_tokens=used.input_tokens,
        input_tokens_details=CachedTokens(cached_tokens=used.cached_tokens),
        output_tokens=used.output_tokens,
        output_tokens_details=ReasoningTokens(reasoning_tokens=used.reasoning_tokens),
        total_tokens=used.input_tokens + used.output_tokens,
    )


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000
