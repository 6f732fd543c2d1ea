"""The options of the web UI as far as they mean something here: kept in Redis, one set for each API key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api import auth, context
from api.a1111 import checkpoints
from api.a1111.schemas import nulls_are_fine
from api.asked import warning_header
from api.context import Context
from api.errors import Refusal
from api.limits import read_json
from api.openai.faults import wrong_type
from api.openai.request import validated
from api.respond import body_schema, errors
from tasks import keys
from tasks.connection import replies
from tasks.errors import ModelUnusable, UnknownModel
from tasks.pictures.header import PictureFormat

router = APIRouter(tags=["Automatic1111"])

_FORMATS = {"png": PictureFormat.PNG, "webp": PictureFormat.WEBP}
_FORMATS |= dict.fromkeys(("jpg", "jpeg"), PictureFormat.JPEG)


class Options(BaseModel):
    """What can be set, and what it is when nobody has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sd_model_checkpoint: Annotated[
        str | None, Field(max_length=256, description="The model; unset, the first that draws pictures.")
    ] = None
    samples_format: Annotated[
        Literal["png", "jpg", "jpeg", "webp"], Field(description="What files pictures become.")
    ] = "png"
    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG and WebP.")] = 80
    live_previews_enable: Annotated[
        bool, Field(description="Keep a small picture of every step for `progress`.")
    ] = True

    @property
    def format(self) -> PictureFormat:
        return _FORMATS[self.samples_format]

    @property
    def quality(self) -> int | None:
        return None if self.format is PictureFormat.PNG else self.jpeg_quality


class OptionsIn(Options):
    """Some of the options; null is one that was not sent."""

    model_config = ConfigDict(json_schema_extra=nulls_are_fine)


class OptionsTold(Options):
    """All of them, and what clients look at that has one value here."""

    sd_checkpoint_hash: str | None
    sd_vae: str
    CLIP_stop_at_last_layers: int
    randn_source: str
    enable_pnginfo: bool


FIXED: dict[str, Any] = {
    "sd_vae": "None",
    "CLIP_stop_at_last_layers": 1,
    "randn_source": "CPU",
    "enable_pnginfo": True,
}
"""Options that clients look at, or set, and that have one value here."""
_SAME: dict[str, tuple[Any, ...]] = {"sd_vae": ("Automatic", "", None)}
"""Other values that mean the same."""
_TOLD_ONLY = frozenset({"sd_checkpoint_hash"})


def settled(given: Mapping[str, Any], base: Options) -> tuple[Options, list[str]]:
    """``base`` with what is ``given``, and a sentence for each name that means nothing here.

    Raises:
        Refusal: a value cannot be honoured; the message names it.
    """
    for name, value in FIXED.items():
        if name in given and given[name] != value and given[name] not in _SAME.get(name, ()):
            raise Refusal("unsupported_value", f"'{name}' is always {json.dumps(value)} here", name)
    known = {name: given[name] for name in Options.model_fields if given.get(name) is not None}
    unknown = [name for name in given if name not in Options.model_fields | FIXED and name not in _TOLD_ONLY]
    changed = validated(Options, {**base.model_dump(), **known})
    return changed, [f"the option {name[:60]!a} has no effect on this server" for name in unknown[:20]]


async def current(shared: Context, owner: str) -> Options:
    """The options as their owner last set them."""
    kept = await replies(shared.redis).hgetall(keys.a1111_options(owner))
    return Options.model_validate({name.decode(): json.loads(value) for name, value in kept.items()})


@router.get("/sdapi/v1/options", response_model=OptionsTold, operation_id="a1111_options")
async def show(request: Request) -> Response:
    """The options. Only the four that can be set, and a few that clients look at."""
    shared = context.of(request)
    options, catalog = await current(shared, auth.owner(request)), await shared.board.catalog()
    told: dict[str, Any] = {**FIXED, **options.model_dump(), "sd_checkpoint_hash": None}
    # Whatever is wrong with the model is told to the one who wants a picture of it.
    with suppress(UnknownModel, ModelUnusable):
        model = checkpoints.checkpoint(catalog, options.sd_model_checkpoint)
        told["sd_model_checkpoint"] = checkpoints.title(model)
        told["sd_checkpoint_hash"] = checkpoints.sha256(model)
    return JSONResponse(told)


@router.post(
    "/sdapi/v1/options",
    response_model=None,
    responses=errors(404),
    openapi_extra=body_schema(OptionsIn),
    operation_id="a1111_set_options",
)
async def change(request: Request) -> Response:
    """Set options for all that come with this key; what means nothing here stands in `x-hearth-warnings`."""
    shared, owner = context.of(request), auth.owner(request)
    _, given = await read_json(request)
    if not isinstance(given, dict):
        raise wrong_type("body", "an object", given)
    options, warnings = settled(given, await current(shared, owner))
    if given.get("sd_model_checkpoint"):
        model = checkpoints.checkpoint(await shared.board.catalog(), options.sd_model_checkpoint)
        options = options.model_copy(update={"sd_model_checkpoint": model.id})
    fields = {
        name: json.dumps(getattr(options, name))
        for name in Options.model_fields
        if given.get(name) is not None
    }
    if fields:
        await replies(shared.redis).hset(keys.a1111_options(owner), mapping=fields)
    headers = {"x-hearth-warnings": warning_header(warnings)} if warnings else {}
    return JSONResponse(None, headers=headers)
