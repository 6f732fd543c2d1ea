"""``png-info``: what a picture tells of how it was made. Its pixels are not looked at."""

from __future__ import annotations

import base64
import binascii

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import context
from api.a1111.schemas import PngInfoRequest
from api.errors import Refusal
from api.limits import read_json
from api.openai.request import validated
from api.respond import body_schema
from tasks.pictures import infotext
from tasks.pictures.header import PictureRefused
from tasks.pictures.texts import read_texts

router = APIRouter(tags=["Automatic1111"])


@router.post("/sdapi/v1/png-info", openapi_extra=body_schema(PngInfoRequest), operation_id="a1111_png_info")
async def show(request: Request) -> Response:
    """The text in a picture file, whole, by keyword, and taken apart. All empty when there is none."""
    _, value = await read_json(request)
    data = decoded(validated(PngInfoRequest, value).image, "image")
    limit = context.of(request).settings.limits.picture_bytes
    if len(data) > limit:
        raise Refusal("image_too_large", f"'image' exceeds {limit} bytes", "image")
    try:
        texts = read_texts(data)
    except PictureRefused as error:
        raise Refusal("invalid_image", f"'image': {error}", "image") from None
    whole = texts.get(infotext.KEYWORD, "")
    return JSONResponse({"info": whole, "items": texts, "parameters": parameters(whole)})


def parameters(text: str) -> dict[str, str]:
    """``text`` taken apart under the names that the web UI uses; empty for no text."""
    if not text:
        return {}
    parsed = infotext.parse(text)
    return {"Prompt": parsed.prompt, "Negative prompt": parsed.negative_prompt, **parsed.fields}


def decoded(text: str, param: str) -> bytes:
    """The bytes behind base64, with or without ``data:…;base64,`` before it. Raises Refusal."""
    text = text.strip()
    if text.startswith(("http://", "https://")):
        raise Refusal("unsupported_value", f"'{param}': pictures are not fetched; send it in base64", param)
    head, comma, rest = text.partition(",")
    encoded = rest if comma and head.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("invalid_image", f"'{param}' is not base64", param) from None
