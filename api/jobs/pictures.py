"""A native request for pictures: its fields, and what is to be drawn for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from api.jobs.schemas import DeadlineS, GridIn
from api.openai.faults import unknown_names, unsupported
from api.openai.schemas import Wire
from api.pictures.drawing import DEFAULT_STRENGTH, Drawing, Origin, parse_size
from api.pictures.inputs import Inputs, PictureIn
from api.webhooks.asked import WebhookField
from tasks.jobs import MaskBy, Resize
from tasks.pictures.header import PictureFormat


class ImageJobRequest(Wire):
    """One picture, or with `n` or `grid` many, each a job of its own. What the model cannot draw is refused
    with a list of what it can; a field that is not known is told in `warnings`."""

    kind: Literal["image"]
    model: Annotated[
        str | None,
        Field(min_length=1, description="Id or alias of a picture model; default the first there is."),
    ] = None
    prompt: Annotated[str, Field(min_length=1, description="What is to be seen.")]
    negative_prompt: Annotated[
        str | None, Field(description="What is not; it has an effect only when guidance_scale is above 1.")
    ] = None
    size: Annotated[
        str | None,
        Field(description="`WIDTHxHEIGHT`, one of the model's sizes (`GET /v1/models`); default its first."),
    ] = None
    steps: Annotated[
        int | None, Field(description="One of the model's numbers of steps; default the model's own.")
    ] = None
    seed: Annotated[
        int | None,
        Field(ge=0, le=2**32 - 1, description="The same seed draws the same picture; default by chance."),
    ] = None
    guidance_scale: Annotated[
        float | None,
        Field(
            ge=1, le=2, allow_inf_nan=False, description="Above 1 each step takes twice as long; default 1."
        ),
    ] = None
    n: Annotated[
        int | None, Field(ge=1, description="So many pictures, with seed, seed + 1, …; default 1.")
    ] = None
    image: Annotated[PictureIn, Field(description="The picture to start from.")] = None
    strength: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            allow_inf_nan=False,
            description="How much of `image` is drawn anew; default 0.75. Times `steps` at least 1.",
        ),
    ] = None
    resize: Annotated[
        Literal["stretch", "crop", "fill"] | None,
        Field(description="How `image` comes to another shape; default `stretch`."),
    ] = None
    mask: Annotated[PictureIn, Field(description="Where `image` is drawn anew.")] = None
    mask_by: Annotated[
        Literal["white", "transparent"] | None,
        Field(description="What in the mask says so; default `white`."),
    ] = None
    format: Annotated[Literal["png", "jpeg", "webp"] | None, Field(description="Default `png`.")] = None
    quality: Annotated[int | None, Field(ge=1, le=100, description="Of JPEG and WebP.")] = None
    previews: Annotated[
        bool | None, Field(description="Show how it comes along: after every step but the last.")
    ] = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Up to 16 pairs, kept with the job (64 and 512 characters).")
    ] = None
    job_class: Annotated[
        Literal["image", "batch"] | None,
        Field(alias="class", description="`batch` waits behind everybody else; default `image`."),
    ] = None
    deadline_s: DeadlineS = None
    webhook: WebhookField = None
    grid: GridIn = None


async def drawing_of(fields: ImageJobRequest, body: Mapping[str, Any], inputs: Inputs) -> Drawing:
    """What ``fields``, which were read from ``body``, ask for. Raises Refusal, naming the field at fault."""
    return Drawing(
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt or "",
        size=None if fields.size in (None, "auto") else parse_size(fields.size),
        steps=fields.steps,
        seed=fields.seed,
        guidance_scale=1.0 if fields.guidance_scale is None else fields.guidance_scale,
        origin=await _origin(fields, inputs),
        format=PictureFormat(fields.format or "png"),
        quality=fields.quality,
        previews=bool(fields.previews),
        metadata=fields.metadata or {},
        warnings=tuple(_warnings(fields, body)),
    )


async def _origin(fields: ImageJobRequest, inputs: Inputs) -> Origin | None:
    if fields.image is None:
        if fields.mask is not None:
            raise unsupported("mask", "there is no 'image' that it could belong to")
        return None
    picture = await inputs.take(fields.image, "image")
    mask = None if fields.mask is None else await inputs.take(fields.mask, "mask")
    strength = DEFAULT_STRENGTH if fields.strength is None else fields.strength
    resize, mask_by = Resize(fields.resize or "stretch"), MaskBy(fields.mask_by or "white")
    return Origin(picture, strength, resize, mask, mask_by)


def _warnings(fields: ImageJobRequest, body: Mapping[str, Any]) -> Iterator[str]:
    if fields.image is None:
        for name in ("strength", "resize"):
            if getattr(fields, name) is not None:
                yield f"{name} has no effect without image"
    if fields.mask is None and fields.mask_by is not None:
        yield "mask_by has no effect without mask"
    yield from unknown_names(body, ImageJobRequest)
