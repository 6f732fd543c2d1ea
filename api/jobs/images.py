"""The files of picture jobs: what was drawn, and how it comes along meanwhile."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse

from api import context
from api.context import Context
from api.errors import Refusal
from api.jobs import owned
from api.respond import errors
from tasks import journal
from tasks.events import ArtifactRef, Preview
from tasks.jobs import ImageJob, JobState
from tasks.records import JobRecord

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["Jobs"])

_FOR_GOOD = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_TAG = re.compile(r'"([^"]*)"|\*')
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/webp")},
    },
    304: {"description": "You have it: `If-None-Match` names its `ETag`."},
}


@router.head("/images/{number}", include_in_schema=False)
@router.get(
    "/images/{number}",
    response_class=Response,
    responses={**_PICTURES, **errors(404, 409, 410, 503)},
    operation_id="show_picture",
)
async def picture(
    request: Request, job_id: str, number: Annotated[int, Path(ge=0, description="0 is the first.")]
) -> Response:
    """A picture that the job made. It never changes: `ETag` is its SHA-256. 409 until the job has ended, 410
    when the file is no longer kept."""
    shared = context.of(request)
    record = await owned.job(request, shared, job_id)
    if number >= len(record.output):
        raise _no_picture(record)
    suffix = f"-{number}" if number else ""
    return _file(request, shared, record.output[number], f"{_name(record)}{suffix}", _FOR_GOOD)


@router.head("/preview", include_in_schema=False)
@router.get(
    "/preview",
    response_class=Response,
    responses={**_PICTURES, **errors(404, 409, 410, 503)},
    operation_id="show_preview",
)
async def preview(
    request: Request,
    job_id: str,
    step: Annotated[int | None, Query(ge=1, description="After which step; default the latest.")] = None,
) -> Response:
    """What the picture looks like after a step, while it is drawn and as long as the journal is kept. Only of
    jobs that asked for `previews`."""
    shared = context.of(request)
    record = await owned.job(request, shared, job_id)
    if not isinstance(record.job, ImageJob) or not record.job.previews:
        raise Refusal("picture_not_found", "this job shows no previews: 'previews' was not asked for")
    entries = await journal.read_async(shared.redis, record.id)
    shown = [entry.event for entry in entries if isinstance(entry.event, Preview)]
    found = [event for event in shown if step is None or event.step == step]
    if not found:
        raise _no_preview(record)
    cache = _ASK_AGAIN if step is None else _FOR_GOOD
    return _file(request, shared, found[-1].picture, f"{_name(record)}-preview{found[-1].step}", cache)


def _no_picture(record: JobRecord) -> Refusal:
    if not isinstance(record.job, ImageJob):
        return Refusal("picture_not_found", "this is no job that makes pictures")
    if not record.state.is_terminal:
        return Refusal("picture_not_ready", f"the picture is not ready: the job is {record.state}")
    if record.state is JobState.SUCCEEDED:
        return Refusal("picture_not_found", f"the job made {len(record.output)} pictures; the first is 0")
    return Refusal("picture_not_found", f"there is no picture: the job {_ended(record.state)}")


def _no_preview(record: JobRecord) -> Refusal:
    if not record.state.is_terminal:
        return Refusal("picture_not_ready", f"there is no such preview yet: the job is {record.state}")
    return Refusal("picture_not_found", "there is no such preview, or none any more")


def _ended(state: JobState) -> str:
    return "was cancelled" if state is JobState.CANCELLED else str(state)


def _name(record: JobRecord) -> str:
    """What a browser calls the file when it saves it."""
    seed = record.job.seed if isinstance(record.job, ImageJob) else 0
    return f"{record.job.model}-{seed}"


def _file(request: Request, shared: Context, file: ArtifactRef, name: str, cache: str) -> Response:
    path = shared.files.path(file)
    if not path.is_file():
        raise Refusal("picture_gone", "the picture is no longer kept: files have their time")
    headers = {"ETag": f'"{file.sha256}"', "Cache-Control": cache}
    known = request.headers.get("if-none-match", "")
    if any(tag[0] == "*" or tag[1] == file.sha256 for tag in _TAG.finditer(known)):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path,
        media_type=file.media_type,
        headers=headers,
        filename=name + path.suffix,
        content_disposition_type="inline",
    )
