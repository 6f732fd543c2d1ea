"""From OpenAI's requests for pictures to drawings: every field is honoured, refused by name, or reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from api.openai.faults import missing, unknown_names, unsupported
from api.openai.image_schemas import ImageEditRequest, ImageRequest
from api.openai.request import Fields, refusal_of
from api.pictures.drawing import DEFAULT_STRENGTH, Drawing, Origin, abilities, parse_size
from api.pictures.inputs import Inputs
from tasks.board import Model
from tasks.jobs import MaskBy, Resize
from tasks.pictures.header import PictureFormat

NAMES = {"quality": "output_compression", "format": "output_format"}
"""OpenAI's words where they are not our own."""
_LOW_STEPS, _FULL_STEPS = 2, 4
_WITHOUT_EFFECT = ("style", "moderation", "complexity", "frame_count", "frame_duration_ms", "svg")
_FILES = ("image", "image[]")
_SHOWN = {"standard": "medium", "hd": "high", "auto": "medium"}


def from_form(kind: type[Fields], form: Sequence[tuple[str, str | bytes]]) -> tuple[Fields, dict[str, Any]]:
    """The fields of a form, and the same by name. Numbers come as text there, pictures as files.

    Raises:
        Refusal: naming the first field at fault.
    """
    body: dict[str, Any] = {name: value for name, value in form if name not in _FILES}
    pictures = [value for name, value in form if name in _FILES]
    if pictures:
        body["image"] = pictures
    try:
        return kind.model_validate(body, strict=False), body
    except ValidationError as error:
        raise refusal_of(error.errors(include_url=False, include_input=False)[0]) from None


async def drawing_of(request: ImageRequest, body: Mapping[str, Any], model: Model, inputs: Inputs) -> Drawing:
    """What ``request``, which was read from ``body``, wants to be drawn by ``model``.

    Raises:
        Refusal: a field asks for something that cannot be given, or holds what it may not hold.
    """
    _refuse_unsupported(request)
    steps = _steps(request, model)
    return Drawing(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or "",
        size=None if request.size in (None, "auto") else parse_size(request.size),
        steps=steps,
        seed=request.seed,
        guidance_scale=1.0 if request.guidance_scale is None else request.guidance_scale,
        origin=await _origin(request, inputs) if isinstance(request, ImageEditRequest) else None,
        format=PictureFormat(request.output_format or "png"),
        # OpenAI's scale begins at 0; no encoder's does.
        quality=None if request.output_compression is None else max(1, request.output_compression),
        previews=bool(request.stream and request.partial_images),
        warnings=tuple(_warnings(request, body, steps)),
    )


def quality_told(request: ImageRequest) -> str:
    """The quality as an answer names it, which has fewer words for it than a request."""
    asked = request.quality or "auto"
    return _SHOWN.get(asked, asked)


def _refuse_unsupported(request: ImageRequest) -> None:
    if request.output_format in ("gif", "svg"):
        raise unsupported("output_format", "this server draws png, jpeg and webp")
    if request.background == "transparent":
        raise unsupported("background", "pictures have no transparent background; leave it out")
    if request.stream and (request.n or 1) > 1:
        raise unsupported("n", "one picture can be streamed at a time; leave out 'stream' or ask for one")
    if isinstance(request, ImageEditRequest) and request.markup is not None:
        raise unsupported("markup", "is not supported; use 'mask'")


def _steps(request: ImageRequest, model: Model) -> int | None:
    """Quality in steps, where the package has them; None is the package's own number."""
    if request.steps is not None:
        return request.steps
    wanted = _LOW_STEPS if request.quality == "low" else _FULL_STEPS
    return wanted if wanted in abilities(model).steps else None


async def _origin(request: ImageEditRequest, inputs: Inputs) -> Origin:
    picture = await inputs.take(*_only(request))
    mask = None if request.mask is None else await inputs.take(_held(request.mask), "mask")
    strength = DEFAULT_STRENGTH if request.strength is None else request.strength
    return Origin(picture, strength, Resize(request.resize or "stretch"), mask, MaskBy.TRANSPARENT)


def _only(request: ImageEditRequest) -> tuple[Any, str]:
    """The one picture of a request, and where it stands there."""
    where = "image" if request.image is not None else "images"
    given = request.image if request.image is not None else request.images
    if given is None:
        raise missing("image")
    if not isinstance(given, list):
        return _held(given), where
    if not given:
        raise missing(where)
    if len(given) > 1:
        raise unsupported(where, f"{len(given)} pictures were sent: one can be drawn from at a time")
    return _held(given[0]), where if where == "image" else "images[0].image_url"


def _held(value: Any) -> Any:
    """What stands for a picture: itself, or the address in an object around it."""
    if not isinstance(value, dict):
        return value
    if "image_url" not in value:
        raise unsupported("images", "pictures come as files, in base64 or as 'image_url' with a data: URI")
    return value["image_url"]


def _warnings(request: ImageRequest, body: Mapping[str, Any], steps: int | None) -> Iterator[str]:
    for name in _WITHOUT_EFFECT:
        if getattr(request, name) is not None:
            yield f"{name} has no effect on this server"
    if isinstance(request, ImageEditRequest) and request.input_fidelity is not None:
        yield "input_fidelity has no effect on this server; use 'strength'"
    if request.quality is not None and request.steps is not None:
        yield "quality has no effect beside steps"
    elif request.quality == "low" and steps != _LOW_STEPS:
        yield f"quality low has no effect: this model does not draw in {_LOW_STEPS} steps"
    if request.partial_images and not request.stream:
        yield "partial_images has no effect without stream"
    if request.response_format == "url" and request.stream:
        yield "response_format has no effect with stream: events carry the picture itself"
    yield from unknown_names(body, type(request))
