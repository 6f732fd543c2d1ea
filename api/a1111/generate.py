"""``txt2img`` and ``img2img``: a job for every picture, and one answer when all of them have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from api import auth, context
from api.a1111 import calls, checkpoints, options, policy
from api.a1111.info import Answer, Drawn
from api.a1111.schemas import GenerateAnswer, GenerateRequest, Img2ImgRequest, Txt2ImgRequest
from api.asked import keeps
from api.context import Context
from api.errors import Problem, Refusal, of_end, shutting_down
from api.limits import read_json
from api.openai.chat import idempotency
from api.openai.request import validated
from api.pictures import call, inputs
from api.pictures.drawing import Origin, abilities, image_jobs
from api.respond import body_schema, errors
from api.terms import Terms
from api.wait import ClientGone, Leaving
from tasks.board import Model
from tasks.events import Cancelled, Expired, Failed, Finished, Terminal
from tasks.jobs import ImageJob, JobClass

router = APIRouter(tags=["Automatic1111"])

_CLIENT_CLOSED = 499
_STATUSES = (404, 409, 410, 429, 504, 507)

_Asked = TypeVar("_Asked", bound=GenerateRequest)


@router.post(
    "/sdapi/v1/txt2img",
    response_model=GenerateAnswer,
    responses=errors(*_STATUSES),
    openapi_extra=body_schema(Txt2ImgRequest),
    operation_id="a1111_txt2img",
)
async def txt2img(request: Request) -> Response:
    """Draw pictures from words. Every picture is a job (`x-job-ids`); a client that closes the connection
    cancels them, unless it sent `x-hearth-keep: true`.

    What had no effect stands in `x-hearth-warnings` and in `info`; with `x-hearth-strict: true` it is
    refused.
    """
    body, asked = await _read(request, Txt2ImgRequest)
    return await _draw(request, "txt2img", body, asked, None)


@router.post(
    "/sdapi/v1/img2img",
    response_model=GenerateAnswer,
    responses=errors(*_STATUSES),
    openapi_extra=body_schema(Img2ImgRequest),
    operation_id="a1111_img2img",
)
async def img2img(request: Request) -> Response:
    """Draw pictures that start from another. See `txt2img`."""
    body, asked = await _read(request, Img2ImgRequest)
    limits = context.of(request).settings.limits
    origin = Origin(
        await inputs.from_value(policy.init_image(asked), "init_images[0]", limits),
        asked.denoising_strength,
        policy.resize_of(asked),
        await inputs.from_value(asked.mask, "mask", limits) if asked.mask else None,
    )
    return await _draw(request, "img2img", body, asked, origin)


async def _read(request: Request, kind: type[_Asked]) -> tuple[bytes, _Asked]:
    body, value = await read_json(request)
    asked = validated(kind, value)
    policy.refuse(asked)
    return body, asked


async def _draw(
    request: Request, kind: str, body: bytes, asked: GenerateRequest, origin: Origin | None
) -> Response:
    shared, owner, keep = context.of(request), auth.owner(request), keeps(request)
    settings, notes = options.settled(asked.override_settings, await options.current(shared, owner))
    model = checkpoints.checkpoint(await shared.board.catalog(), settings.sd_model_checkpoint)
    drawing = policy.drawing(asked, settings, abilities(model), origin, notes)
    wanted = image_jobs(
        drawing,
        model,
        Terms(owner, JobClass.IMAGE, has_reader=not keep),
        shared.settings,
        count=asked.batch_size * asked.n_iter,
        names=policy.NAMES,
    )
    _refuse_if_strict(request, wanted[0])
    jobs = await call.ask(shared, wanted, drawing.inputs, idempotency(request, body))
    ids = [job.submission.id for job in jobs]
    await calls.begin(shared, owner, kind, asked.force_task_id or calls.new_id(kind), ids, jobs[0].steps)
    headers = call.headers(jobs)
    try:
        ends = await call.all_ends(shared, request, jobs, keep=keep)
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED, headers=headers)
    except Leaving:
        return _problem(request, shutting_down(), headers)
    # What has ended is not to be among what is going on when the client asks next.
    await calls.going(shared, owner)
    for end in ends:
        if isinstance(end, Failed | Expired) or (isinstance(end, Cancelled) and end.reason == "no_reader"):
            return _problem(request, of_end(end), headers)
    return await _answer(shared, asked, model, jobs, ends)


async def _answer(
    shared: Context,
    asked: GenerateRequest,
    model: Model,
    jobs: Sequence[ImageJob],
    ends: Sequence[Terminal],
) -> Response:
    """All pictures there are: fewer than were asked for when the rest was interrupted or skipped."""
    done = [(job, end) for job, end in zip(jobs, ends, strict=True) if isinstance(end, Finished)]
    drawn = [Drawn(job, await call.read(shared, end.output[0])) for job, end in done]
    told = [*jobs[0].submission.warnings, *(warning for _, end in done for warning in end.warnings)]
    if len(done) < len(jobs):
        told.append(f"interrupted: {len(done)} of {len(jobs)} pictures were drawn")
    warnings = list(dict.fromkeys(told))
    # A hundred pictures are some 50 MB of base64: not on the loop that serves everybody.
    body = await asyncio.to_thread(Answer(asked, model, jobs, drawn, warnings).body)
    return Response(body, headers=call.headers(jobs, warnings), media_type="application/json")


def _problem(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    response = problem.response(request.url.path)
    response.headers.update(headers)
    return response


def _refuse_if_strict(request: Request, job: ImageJob) -> None:
    warnings = job.submission.warnings
    if warnings and request.headers.get("x-hearth-strict", "").lower() == "true":
        raise Refusal("unsupported_value", "; ".join(warnings))
