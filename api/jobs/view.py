"""A record as a client sees it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from api.context import Context
from api.embeddings import vectors
from api.jobs import urls
from api.jobs.schemas import (
    BatchCounts,
    BatchOut,
    BatchUrls,
    EtaOut,
    InputOut,
    JobError,
    JobList,
    JobOut,
    JobRef,
    JobUsage,
    OutputOut,
    ProgressOut,
    SourceOut,
    TimingsOut,
    Urls,
    WebhookOut,
)
from api.respond import seconds
from api.system import hold_out
from tasks import records
from tasks.batches import BatchOverview
from tasks.board import PictureSize
from tasks.eta import Forecast
from tasks.events import ArtifactRef
from tasks.jobs import FinishReason, ImageJob, Job, JobId, JobKind, JobState, Source
from tasks.outlook import tell
from tasks.records import JobRecord
from tasks.webhooks import outbox
from tasks.webhooks.outbox import Delivery, DeliveryState


async def told(shared: Context, kept: Sequence[JobRecord]) -> list[JobOut]:
    """Records as their owner sees them, those that wait with their place and when they will begin and end."""
    waiting = [record for record in kept if record.state is JobState.QUEUED]
    expected: dict[str, Forecast] = {}
    made_ms = 0.0
    for record in waiting:
        outlook = await shared.board.outlook(record.id, record.ready_at_ms)
        if record.id in outlook.jobs:
            expected[record.id], made_ms = outlook.jobs[record.id], outlook.made_ms
    if expected:
        await tell(shared.redis, expected, made_ms)
    others = [record.id for record in waiting if record.id not in expected]
    places = dict(zip(others, await records.positions(shared.redis, others), strict=True))
    letters = [letter for record in kept for letter in record.letters]
    sent = await outbox.deliveries(shared.redis, letters)
    return [_told(record, places.get(record.id), expected.get(record.id), sent) for record in kept]


def _told(
    record: JobRecord, place: int | None, forecast: Forecast | None, sent: Mapping[str, Delivery]
) -> JobOut:
    told = webhooks_out(record, [sent[letter] for letter in record.letters if letter in sent])
    return job_out(record, place if forecast is None else forecast.place, forecast, told)


def webhooks_out(record: JobRecord, sent: Sequence[Delivery]) -> list[WebhookOut]:
    """What is on its way, or, until the job has ended, the address that will be told."""
    about = record.job.submission.announcement
    if record.state.is_terminal or about is None or about.url is None:
        return [webhook_out(delivery) for delivery in sent]
    waiting = Delivery(None, None, None, about.url, DeliveryState.WAITING, 0, None, None, None)
    return [webhook_out(waiting)]


def webhook_out(delivery: Delivery) -> WebhookOut:
    return WebhookOut(
        event=delivery.event,
        type=delivery.kind,
        url=delivery.url,
        endpoint=delivery.endpoint,
        state=delivery.state,
        attempts=delivery.attempts,
        last_status=delivery.status,
        last_error=delivery.error,
        next_at=None if delivery.next_at_ms is None else seconds(delivery.next_at_ms),
    )


def job_list(
    jobs: list[JobOut], *, has_more: bool = False, batch: str | None = None, unreadable: Sequence[JobId] = ()
) -> JobList:
    return JobList(
        data=jobs,
        has_more=has_more,
        last_id=jobs[-1].id if jobs else None,
        batch=batch,
        jobs=[JobRef(id=job.id, state=job.state, url=job.urls.self) for job in jobs],
        unreadable=list(unreadable),
    )


def job_out(
    record: JobRecord,
    position: int | None,
    forecast: Forecast | None = None,
    webhooks: Sequence[WebhookOut] = (),
) -> JobOut:
    """``position`` and ``forecast`` are asked separately: they change with every job that ends."""
    submission = record.job.submission
    return JobOut(
        id=record.id,
        kind=record.job.kind,
        model=record.job.model,
        state=record.state,
        hold=None if record.hold is None else hold_out(record.hold),
        queue=record.queue,
        position=position,
        eta=None if forecast is None else _eta(forecast),
        progress=None if record.progress is None else ProgressOut(**record.progress._asdict()),
        attempt=record.attempt,
        created_at=seconds(record.created_at_ms),
        started_at=None if record.started_at_ms is None else seconds(record.started_at_ms),
        ended_at=None if record.ended_at_ms is None else seconds(record.ended_at_ms),
        timings=TimingsOut(queued_ms=_queued_ms(record), load_ms=record.load_ms, run_ms=record.run_ms),
        usage=_usage(record),
        output=_output(record),
        strikes=record.strikes,
        error=None
        if record.error is None
        else JobError(code=record.error.code, message=record.error.message),
        warnings=list(record.warnings),
        metadata=dict(submission.metadata),
        input=_input(record.job),
        batch=submission.batch,
        custom_id=submission.custom_id,
        retry_of=submission.retry_of,
        retried_as=record.retried_as,
        webhooks=list(webhooks),
        urls=_urls(record),
    )


def _eta(forecast: Forecast) -> EtaOut:
    basis: Literal["measured", "guessed"] = "measured" if forecast.is_measured else "guessed"
    return EtaOut(starts_at=seconds(forecast.starts_ms), ends_at=seconds(forecast.ends_ms), basis=basis)


def _queued_ms(record: JobRecord) -> float:
    if record.state is not JobState.QUEUED:
        return record.queued_ms
    return record.queued_ms + max(0, time.time_ns() // 1_000_000 - record.ready_at_ms)


def _usage(record: JobRecord) -> JobUsage | None:
    used = record.usage
    if used is None:
        return None
    return JobUsage(
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cached_tokens=used.cached_tokens,
        reasoning_tokens=used.reasoning_tokens,
    )


def _output(record: JobRecord) -> list[OutputOut]:
    reason = _reason(record)
    pieces = [OutputOut(type="reasoning", text=record.reasoning)] if record.reasoning else []
    is_empty_answer = (
        record.state is JobState.SUCCEEDED
        and record.job.kind is JobKind.CHAT
        and not (record.calls or record.output)
    )
    if record.text or is_empty_answer:
        pieces.append(OutputOut(type="text", text=record.text or "", finish_reason=reason))
    pieces += [
        OutputOut(
            type="tool_call", id=call.id, name=call.name, arguments=call.arguments, finish_reason=reason
        )
        for call in record.calls
    ]
    pieces += [_picture(record, number, file) for number, file in enumerate(record.output)]
    return [*pieces, *_vectors(record)]


def _vectors(record: JobRecord) -> list[OutputOut]:
    """That there are some, and where: a list of jobs would be megabytes with them in it."""
    found = vectors.of_record(record)
    if not found:
        return []
    here = urls.embeddings(record.id)
    return [OutputOut(type="embeddings", url=here, count=len(found), dimensions=len(found[0]) // 4)]


def _picture(record: JobRecord, number: int, file: ArtifactRef) -> OutputOut:
    job = record.job if isinstance(record.job, ImageJob) else None
    return OutputOut(
        type="image",
        url=urls.picture(record.id, number),
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        width=None if job is None else job.width_px,
        height=None if job is None else job.height_px,
        seed=None if job is None else job.seed,
    )


def _input(job: Job) -> InputOut | None:
    if not isinstance(job, ImageJob):
        return None
    return InputOut(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        size=str(PictureSize(job.width_px, job.height_px)),
        steps=job.steps,
        seed=job.seed,
        guidance_scale=job.guidance_scale,
        format=job.format,
        quality=job.quality,
        previews=job.previews,
        source=None if job.source is None else _source(job.source),
    )


def _source(source: Source) -> SourceOut:
    return SourceOut(
        sha256=source.sha256,
        strength=source.strength,
        resize=source.resize,
        mask_sha256=source.mask_sha256,
        mask_by=None if source.mask_sha256 is None else source.mask_by,
    )


def _reason(record: JobRecord) -> Literal["stop", "length", "tool_calls"] | None:
    if record.finish_reason is FinishReason.LENGTH:
        return "length"
    if record.finish_reason is FinishReason.TOOL_CALLS:
        return "tool_calls"
    return None if record.finish_reason is None else "stop"


def _urls(record: JobRecord) -> Urls:
    here, batch = urls.job(record.id), record.job.submission.batch
    shows = isinstance(record.job, ImageJob) and record.job.previews
    return Urls(
        self=here,
        events=f"{here}/events",
        cancel=f"{here}/cancel",
        output=[
            *(urls.picture(record.id, number) for number in range(len(record.output))),
            *([urls.embeddings(record.id)] if record.vectors else ()),
        ],
        preview=urls.preview(record.id) if shows else None,
        batch=None if batch is None else urls.batch(batch),
    )


async def batch_told(shared: Context, batch: BatchOverview) -> BatchOut:
    """A batch as its owner sees it, with when its next job will begin and its last one end."""
    letters = await outbox.letters_of_batch(shared.redis, batch.id)
    sent = (await outbox.deliveries(shared.redis, letters)).values()
    if batch.waiting is None:
        return batch_out(batch, None, sent)
    first, last = [(await shared.board.outlook(job_id)).jobs.get(job_id) for job_id in batch.waiting]
    return batch_out(batch, None if first is None or last is None else _span(first, last), sent)


def _span(first: Forecast, last: Forecast) -> Forecast:
    return replace(last, starts_ms=first.starts_ms)


def batch_out(batch: BatchOverview, forecast: Forecast | None, sent: Collection[Delivery] = ()) -> BatchOut:
    here = urls.batch(batch.id)
    has_begun = batch.started_at_ms is not None
    return BatchOut(
        id=batch.id,
        state="ended" if batch.ended == batch.total else "running" if has_begun else "queued",
        total=batch.total,
        counts=BatchCounts(**{state.value: count for state, count in batch.counts.items()}),
        retried=batch.retried,
        progress=ProgressOut(done=batch.ended, total=batch.total, unit="jobs"),
        eta=None if forecast is None else _eta(forecast),
        created_at=seconds(batch.created_at_ms),
        started_at=None if batch.started_at_ms is None else seconds(batch.started_at_ms),
        ended_at=None if batch.ended_at_ms is None else seconds(batch.ended_at_ms),
        webhooks=[webhook_out(delivery) for delivery in sent],
        urls=BatchUrls(
            self=here,
            jobs=f"/v1/jobs?batch={batch.id}",
            cancel=f"{here}/cancel",
            retry_failed=f"{here}/retry-failed",
        ),
    )
