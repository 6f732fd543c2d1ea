"""How a job ended, in the three forms that tell of it: terminal event, state, record."""

from __future__ import annotations

import logging
import secrets
from base64 import b64decode
from dataclasses import replace
from typing import Any, Literal

from pydantic import TypeAdapter

from tasks.engines import Verdict
from tasks.errors import Internal, JobError
from tasks.events import (
    ArtifactRef,
    Cancelled,
    Embedded,
    Expired,
    Failed,
    Finished,
    Loading,
    StepDone,
    Terminal,
    Timings,
    Usage,
    encode,
)
from tasks.jobs import Call, EmbedJob, FinishReason, JobState
from tasks.made import Made

log = logging.getLogger("hearth.tasks.outcome")

USAGE: TypeAdapter[Usage] = TypeAdapter(Usage)
TIMINGS: TypeAdapter[Timings] = TypeAdapter(Timings)
FAILED: TypeAdapter[Failed] = TypeAdapter(Failed)
OUTPUT: TypeAdapter[tuple[ArtifactRef, ...]] = TypeAdapter(tuple[ArtifactRef, ...])
CALLS: TypeAdapter[tuple[Call, ...]] = TypeAdapter(tuple[Call, ...])
WARNINGS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])

_STATES: dict[type[Any], JobState] = {
    Finished: JobState.SUCCEEDED,
    Failed: JobState.FAILED,
    Cancelled: JobState.CANCELLED,
    Expired: JobState.EXPIRED,
}


def state_after(event: Terminal) -> JobState:
    return _STATES[type(event)]


def failed(error: JobError) -> Failed:
    return Failed(error.code, error.message, error.param, error.retryable)


def internal(error: Exception, job_id: str) -> Failed:
    """What a client is told about a bug of ours: an id that the log has beside the traceback."""
    fault = secrets.token_hex(4)
    log.error("internal error %s in job %s", fault, job_id, exc_info=error)
    return failed(Internal(f"an internal error; the server's log has it as {fault}"))


def true_ending(event: Terminal, cancel: str | None) -> Terminal:
    """The engine's ending with what only the queue knows: why it was cancelled."""
    reason: Literal["requested", "no_reader"] = "no_reader" if cancel == "no_reader" else "requested"
    if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
        return Cancelled(reason=reason, usage=event.usage)
    if isinstance(event, Cancelled) and cancel is not None:
        return replace(event, reason=reason)
    return event


def of_verdict(verdict: Verdict, cancel: str | None) -> Terminal | None:
    """The ending a verdict demands of an engine that left without one; None when it demands none."""
    if verdict is Verdict.CANCEL:
        return true_ending(Cancelled(reason="requested"), cancel)
    if verdict is Verdict.EXPIRE:
        return Expired()
    return None


def tokens(done: int, total: int | None) -> str:
    return f"{done} {total or ''} tokens"


def files(event: Loading) -> str:
    return f"{event.done} {event.total} files"


def steps(event: StepDone) -> str:
    return f"{event.done} {event.total} steps"


def inputs(event: Embedded, job: EmbedJob) -> str:
    return f"{event.index + 1} {len(job.inputs)} inputs"


def record_fields(event: Terminal, made: Made, progress: str) -> list[bytes | str]:
    """Pairs of field and value that the record keeps when the journal has gone."""
    fields = _made_fields(made)
    if progress:
        fields["progress"] = progress
    if isinstance(event, Finished):
        fields["finish_reason"] = event.reason.value
        fields["timings"] = TIMINGS.dump_json(event.timings)
        if made.embedded:
            fields["vectors"] = b"".join(b64decode(each.vector) for each in made.embedded)
        if event.output:
            fields["output"] = OUTPUT.dump_json(event.output)
        if event.warnings:
            fields["warnings"] = WARNINGS.dump_json(event.warnings)
    if isinstance(event, Finished | Cancelled) and event.usage is not None:
        fields["usage"] = USAGE.dump_json(event.usage)
    if isinstance(event, Failed):
        fields["error"] = encode(event)
    if isinstance(event, Cancelled):
        fields["cancelled_because"] = event.reason
    return [part for pair in fields.items() for part in pair]


def _made_fields(made: Made) -> dict[str, bytes | str]:
    fields: dict[str, bytes | str] = {}
    if made.text:
        fields["text"] = made.text
    if made.reasoning:
        fields["reasoning"] = made.reasoning
    if made.calls:
        fields["calls"] = CALLS.dump_json(tuple(made.calls))
    return fields


def rebuilt(
    state: JobState,
    *,
    error: Failed | None,
    finish_reason: FinishReason | None,
    usage: Usage | None,
    timings: Timings | None,
    output: tuple[ArtifactRef, ...],
    warnings: tuple[str, ...],
    cancelled_because: str | None,
) -> Terminal:
    """The terminal event once more, from what the record kept of it."""
    if state is JobState.SUCCEEDED:
        return Finished(
            finish_reason or FinishReason.STOP, usage or Usage(0, 0), timings or Timings(), output, warnings
        )
    if state is JobState.FAILED:
        return error or Failed("internal_error", "the reason was not recorded")
    if state is JobState.EXPIRED:
        return Expired()
    return Cancelled("no_reader" if cancelled_because == "no_reader" else "requested", usage)
