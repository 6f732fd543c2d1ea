"""Picture jobs told in OpenAI's words: events of a stream, or one body."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.context import Context
from api.errors import Problem, Refusal, of_end
from api.jobs import urls
from api.openai.image_schemas import ImageFacts, ImageOut, ImagesOut, ImageTokens, ImageUsage
from api.pictures import call
from api.stream import SseVoice, comment
from tasks.board import PictureSize
from tasks.events import ArtifactRef, Cancelled, Expired, Failed, Finished, Preview, Usage
from tasks.jobs import ImageJob
from tasks.journal import Entry


@dataclass(frozen=True, slots=True)
class Setting:
    """What all pictures of one request have in common. ``base_url``: how the client reached this server."""

    kind: str
    quality: str
    base_url: str
    as_url: bool


async def body_of(
    shared: Context, setting: Setting, jobs: Sequence[ImageJob], ends: Sequence[Finished]
) -> ImagesOut:
    """The whole answer. Raises Refusal when a picture is no longer kept."""
    first = jobs[0]
    pairs = list(zip(jobs, ends, strict=True))
    return ImagesOut.model_validate(
        {
            "created": first.submission.created_at_ms // 1000,
            "data": [await _image(shared, setting, job, end.output[0]) for job, end in pairs],
            "output_format": first.format.value,
            "quality": setting.quality,
            "size": _size(first),
            "usage": usage_of([end.usage for end in ends]),
            "hearth": ImageFacts(
                model=first.model, steps=first.steps, jobs=[job.submission.id for job in jobs]
            ),
        }
    )


async def _image(shared: Context, setting: Setting, job: ImageJob, file: ArtifactRef) -> ImageOut:
    if setting.as_url:
        return ImageOut(url=setting.base_url + urls.picture(job.submission.id), seed=job.seed)
    return ImageOut(b64_json=await _base64(shared, file), seed=job.seed)


async def _base64(shared: Context, file: ArtifactRef) -> str:
    return base64.b64encode(await call.read(shared, file)).decode()


def usage_of(used: Sequence[Usage]) -> ImageUsage:
    tokens = sum(each.prompt_tokens for each in used)
    return ImageUsage(
        input_tokens=tokens, total_tokens=tokens, input_tokens_details=ImageTokens(text_tokens=tokens)
    )


def shown_steps(job: ImageJob, count: int) -> frozenset[int]:
    """After which steps a preview is shown, so that ``count`` of them are spread over the drawing."""
    total = job.steps if job.source is None else int(job.steps * job.source.strength)
    spread = (round((index + 1) * total / (count + 1)) for index in range(count))
    return frozenset(min(max(step, 1), total - 1) for step in spread if total > 1)


class PictureVoice(SseVoice):
    """``stream.Voice`` of picture streams: previews, then the picture, each as one event."""

    def __init__(self, shared: Context, setting: Setting, job: ImageJob, partial_images: int) -> None:
        self._shared = shared
        self._setting = setting
        self._job = job
        self._to_show = shown_steps(job, partial_images)
        self._shown: set[int] = set()

    async def tell(self, entry: Entry) -> bytes:
        event = entry.event
        if isinstance(event, Preview):
            return await self._partial(event, entry.id)
        if isinstance(event, Finished):
            return await self._completed(event, entry.id)
        if isinstance(event, Failed | Cancelled | Expired):
            return self.fail(of_end(event))
        return b""

    def fail(self, problem: Problem) -> bytes:
        return _event("error", problem.envelope())

    async def _partial(self, event: Preview, entry_id: str) -> bytes:
        # Another attempt, after a crash, shows its steps again.
        if event.step not in self._to_show or event.step in self._shown:
            return b""
        try:
            picture = await _base64(self._shared, event.picture)
        except Refusal:  # of an answer told late the previews may be gone, and it is whole without them
            return b""
        index = len(self._shown)
        self._shown.add(event.step)
        kind = event.picture.media_type.removeprefix("image/")
        about = {"b64_json": picture, "output_format": kind, "partial_image_index": index}
        return self._say("partial_image", about, entry_id)

    async def _completed(self, event: Finished, entry_id: str) -> bytes:
        picture = await _base64(self._shared, event.output[0])
        usage = usage_of([event.usage]).model_dump()
        about = {
            "b64_json": picture,
            "output_format": self._job.format.value,
            "usage": usage,
            "seed": self._job.seed,
        }
        told = b"".join(comment(f"warning {each}") for each in event.warnings)
        return told + self._say("completed", about, entry_id)

    def _say(self, what: str, about: dict[str, Any], entry_id: str) -> bytes:
        kind = f"{self._setting.kind}.{what}"
        common = {
            "type": kind,
            "created_at": self._job.submission.created_at_ms // 1000,
            "size": _size(self._job),
            "quality": self._setting.quality,
            "background": "opaque",
        }
        return f"id: {entry_id}\n".encode() + _event(kind, {**common, **about})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _size(job: ImageJob) -> str:
    return str(PictureSize(job.width_px, job.height_px))
