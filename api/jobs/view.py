"""A record as a client sees it."""

from __future__ import annotations

import time
from typing import Literal

from api.jobs.schemas import EtaOut, JobError, JobOut, JobUsage, OutputOut, ProgressOut, TimingsOut, Urls
from api.respond import seconds
from api.system import hold_out
from tasks.eta import Forecast
from tasks.jobs import FinishReason, JobState
from tasks.records import JobRecord


def job_out(record: JobRecord, position: int | None, forecast: Forecast | None = None) -> JobOut:
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
    if record.text or (record.state is JobState.SUCCEEDED and not record.calls):
        pieces.append(OutputOut(type="text", text=record.text or "", finish_reason=reason))
    pieces += [
        OutputOut(
            type="tool_call", id=call.id, name=call.name, arguments=call.arguments, finish_reason=reason
        )
        for call in record.calls
    ]
    return pieces + [
        OutputOut(type="file", media_type=file.media_type, size_bytes=file.size_bytes, sha256=file.sha256)
        for file in record.output
    ]


def _reason(record: JobRecord) -> Literal["stop", "length", "tool_calls"] | None:
    if record.finish_reason is FinishReason.LENGTH:
        return "length"
    if record.finish_reason is FinishReason.TOOL_CALLS:
        return "tool_calls"
    return None if record.finish_reason is None else "stop"


def _urls(record: JobRecord) -> Urls:
    here = f"/v1/jobs/{record.id}"
    return Urls(self=here, events=f"{here}/events", cancel=f"{here}/cancel", output=[])
