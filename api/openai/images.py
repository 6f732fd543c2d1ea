"""``/v1/images``: picture jobs, and their pictures in OpenAI's words, at once or as a stream."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Request, Response

from api import auth, context
from api.asked import keeps
from api.board import resolve_or_default
from api.context import Context
from api.errors import Refusal, of_end, shutting_down
from api.follow import Following, place_of
from api.limits import is_form, read_form, read_json
from api.openai.chat import idempotency
from api.openai.image_answer import PictureVoice, Setting, body_of
from api.openai.image_request import NAMES, drawing_of, from_form, quality_told
from api.openai.image_schemas import ImageEditRequest, ImageRequest, ImagesOut
from api.openai.request import validated
from api.openai.schemas import ErrorEnvelope
from api.patience import refuse_the_hopeless
from api.pictures import call
from api.pictures.drawing import image_jobs
from api.pictures.inputs import Inputs
from api.request_id import request_id
from api.respond import as_json, body_schema, errors, form_schema
from api.stream import JournalStream
from api.terms import Terms
from api.wait import ClientGone, Leaving
from tasks.events import Finished
from tasks.jobs import ImageJob, JobClass
from tasks.submit import Idempotency

router = APIRouter(prefix="/v1/images", tags=["OpenAI"])

_CLIENT_CLOSED = 499
_STATUSES = (400, 404, 409, 410, 413, 415, 429, 503, 504, 507)
_DRAWN: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesOut,
        "description": "The pictures; with `stream`, server-sent events.",
        "content": {"text/event-stream": {}},
    }
}


@router.post(
    "/generations",
    response_model=ImagesOut,
    responses={**_DRAWN, **errors(*_STATUSES)},
    openapi_extra=body_schema(ImageRequest),
    operation_id="create_image",
)
async def generate(request: Request) -> Response:
    """Draw pictures from words.

    With `stream`, previews and the picture come as the events `image_generation.partial_image` and
    `image_generation.completed`. A client that closes the connection cancels its jobs, unless it sent
    `x-hearth-keep: true`. The first job stands in `x-job-id`, all of them in `x-job-ids`; what had no effect
    in `x-hearth-warnings`.
    """
    body, value = await read_json(request)
    fields = validated(ImageRequest, value)
    return await _answer(request, "image_generation", fields, value, idempotency(request, body))


@router.post(
    "/edits",
    response_model=ImagesOut,
    responses={**_DRAWN, **errors(*_STATUSES)},
    openapi_extra=body_schema(ImageEditRequest, or_form=form_schema(ImageEditRequest, "image", "mask")),
    operation_id="edit_image",
)
async def edit(request: Request) -> Response:
    """Draw pictures from a picture and words.

    Send a form with the files `image` and `mask`, or JSON with both in base64.

    Where `mask` is transparent the picture is drawn anew, without one everywhere; `strength` says how much.
    Events are `image_edit.partial_image` and `image_edit.completed`; everything else is as above.
    """
    if is_form(request):
        form = await read_form(request)
        fields, value = from_form(ImageEditRequest, form)
        return await _answer(request, "image_edit", fields, value, idempotency(request, _digest(form)))
    body, value = await read_json(request)
    fields = validated(ImageEditRequest, value)
    return await _answer(request, "image_edit", fields, value, idempotency(request, body))


@router.post(
    "/variations",
    status_code=410,
    response_model=ErrorEnvelope,
    response_description="Retired.",
    operation_id="vary_image",
)
async def vary() -> Response:
    """Retired, as it is with OpenAI: `/v1/images/edits` starts from a picture."""
    raise Refusal(
        "endpoint_retired",
        "/v1/images/variations takes no requests; send the picture and a prompt to /v1/images/edits",
    )


def _digest(form: list[tuple[str, str | bytes]]) -> bytes:
    """What is the same for the same form: the line between its parts is another each time."""
    told = hashlib.sha256()
    for name, value in form:
        raw = value.encode() if isinstance(value, str) else value
        told.update(f"{len(name)}:{name}{len(raw)}:".encode())
        told.update(raw)
    return told.digest()


async def _answer(
    request: Request, kind: str, fields: ImageRequest, value: Any, once: Idempotency | None
) -> Response:
    shared, keep = context.of(request), keeps(request)
    catalog = await shared.board.catalog()
    model = resolve_or_default(catalog, fields.model, "image")
    drawing = await drawing_of(fields, value, model, Inputs(shared.settings.limits))
    terms = Terms(auth.owner(request), JobClass.IMAGE, has_reader=not keep)
    wanted = image_jobs(drawing, model, terms, shared.settings, count=fields.n or 1, names=NAMES)
    if not fields.stream and not keep:
        # The last of them ends last.
        await refuse_the_hopeless(request, shared, wanted[-1])
    jobs = await call.ask(shared, wanted, drawing.inputs, once)
    setting = Setting(
        kind, quality_told(fields), str(request.base_url).rstrip("/"), fields.response_format == "url"
    )
    if fields.stream:
        return await _stream(request, shared, setting, jobs[0], fields.partial_images or 0, keep=keep)
    return await _whole(request, shared, setting, jobs, keep=keep)


async def _stream(
    request: Request, shared: Context, setting: Setting, job: ImageJob, partial_images: int, *, keep: bool
) -> Response:
    job_id = job.submission.id
    entries = Following(shared, job_id, renew=not keep)
    try:
        place = await place_of(shared, job_id)
    except BaseException:
        await entries.aclose()
        raise
    return JournalStream(
        shared,
        job_id,
        entries,
        PictureVoice(shared, setting, job, partial_images),
        request_id=request_id(request),
        headers=call.headers([job]),
        place=place,
    )


async def _whole(
    request: Request, shared: Context, setting: Setting, jobs: list[ImageJob], *, keep: bool
) -> Response:
    headers = call.headers(jobs)
    try:
        ends = await call.all_ends(shared, request, jobs, keep=keep)
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED, headers=headers)
    except Leaving:
        response: Response = shutting_down().response(request.url.path)
        response.headers.update(headers)
        return response
    drawn = [end for end in ends if isinstance(end, Finished)]
    for end in ends:
        if not isinstance(end, Finished):
            response = of_end(end).response(request.url.path)
            response.headers.update(headers)
            return response
    headers = call.headers(jobs, [warning for end in drawn for warning in end.warnings])
    return as_json(await body_of(shared, setting, jobs, drawn), headers=headers)
