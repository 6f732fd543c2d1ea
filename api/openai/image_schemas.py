"""OpenAI's shapes for pictures: what a request may hold, as JSON or as a form, and what we answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.openai.schemas import Wire
from api.pictures.inputs import PictureIn


class ImageRequest(Wire):
    """A picture drawn from words. `seed`, `steps`, `negative_prompt` and `guidance_scale` are not OpenAI's.
    What would change the picture and cannot be honoured is refused; the rest is told in `x-hearth-warnings`.
    """

    prompt: Annotated[str, Field(min_length=1, description="What is to be seen.")]
    model: Annotated[
        str | None,
        Field(min_length=1, description="Id or alias of a picture model; default the first there is."),
    ] = None
    n: Annotated[int | None, Field(ge=1, le=10, description="So many pictures; 1 with `stream`.")] = None
    size: Annotated[
        str | None,
        Field(description="`WIDTHxHEIGHT`, one of the model's sizes (`GET /v1/models`), or `auto`."),
    ] = None
    quality: Annotated[
        Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None,
        Field(description="`low` is drawn in 2 steps, everything else in 4, where the model can."),
    ] = None
    response_format: Annotated[
        Literal["b64_json", "url"] | None,
        Field(description="`url`: an address on this server, good as long as the job is kept."),
    ] = None
    output_format: Annotated[
        Literal["png", "jpeg", "webp", "gif", "svg"] | None,
        Field(description="`png` by default; `gif` and `svg` cannot be drawn."),
    ] = None
    output_compression: Annotated[
        int | None, Field(ge=0, le=100, description="Quality of JPEG and WebP; default 90.")
    ] = None
    background: Annotated[
        Literal["auto", "opaque", "transparent"] | None, Field(description="Pictures are opaque.")
    ] = None
    stream: Annotated[
        bool | None, Field(description="Send server-sent events: previews, then the picture.")
    ] = None
    partial_images: Annotated[
        int | None, Field(ge=0, le=3, description="So many previews at most, with `stream`.")
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=2**32 - 1, description="The same seed draws the same picture.")
    ] = None
    steps: Annotated[
        int | None, Field(description="One of the model's numbers of steps; goes before `quality`.")
    ] = None
    negative_prompt: Annotated[
        str | None, Field(description="What is not to be seen; with guidance_scale above 1.")
    ] = None
    guidance_scale: Annotated[
        float | None,
        Field(ge=1, le=2, allow_inf_nan=False, description="Above 1 each step takes twice as long."),
    ] = None

    # Accepted; a warning says that it has no effect.
    style: Literal["vivid", "natural"] | None = None
    moderation: Literal["low", "auto"] | None = None
    complexity: Any = None
    frame_count: Any = None
    frame_duration_ms: Any = None
    svg: Any = None
    # Accepted in silence: it names somebody.
    user: str | None = None
    safety_identifier: str | None = None


class ImageEditRequest(ImageRequest):
    """A picture drawn from another one and from words. `strength` and `resize` are not OpenAI's."""

    image: Annotated[
        PictureIn, Field(description="The picture to start from: one file, or a list of one. Required.")
    ] = None
    images: Annotated[
        Any, Field(description='The same as OpenAI\'s JSON has it: `[{"image_url": "data:…"}]`.')
    ] = None
    mask: Annotated[
        PictureIn, Field(description="Where it is transparent the picture is drawn anew; the rest stays.")
    ] = None
    strength: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            allow_inf_nan=False,
            description="How much is drawn anew; default 0.75. Times the steps at least 1.",
        ),
    ] = None
    resize: Annotated[
        Literal["stretch", "crop", "fill"] | None,
        Field(description="How the picture comes to another shape; default `stretch`."),
    ] = None

    input_fidelity: Literal["high", "low"] | None = None
    markup: Any = None


class ImageOut(BaseModel):
    b64_json: Annotated[str | None, Field(description="The file; left out with `response_format` `url`.")] = (
        None
    )
    url: Annotated[str | None, Field(description="Where the file is; left out otherwise.")] = None
    seed: Annotated[int, Field(description="Draws this picture again. Not OpenAI's.")]


class ImageTokens(BaseModel):
    image_tokens: int = 0
    text_tokens: int


class ImageUsage(BaseModel):
    """Tokens of the prompt, counted once for each picture."""

    input_tokens: int
    output_tokens: int = 0
    total_tokens: int
    input_tokens_details: ImageTokens


class ImageFacts(BaseModel):
    """What Hearth tells beyond OpenAI's fields."""

    model: str
    steps: int
    jobs: Annotated[list[str], Field(description="One for each picture, in their order.")]


class ImagesOut(BaseModel):
    created: Annotated[int, Field(description="Seconds since the epoch.")]
    data: list[ImageOut]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["low", "medium", "high", "xhigh", "max"]
    size: str
    usage: ImageUsage
    hearth: ImageFacts
