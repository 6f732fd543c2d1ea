"""``png-info``: what a picture tells of how it was made. Its pixels are not looked at."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import context
from api.a1111.schemas import PngInfo, PngInfoRequest
from api.limits import read_json
from api.openai.request import validated
from api.pictures import inputs
from api.respond import body_schema
from tasks.pictures import infotext
from tasks.pictures.texts import read_texts

router = APIRouter(tags=["Automatic1111"])


@router.post(
    "/sdapi/v1/png-info",
    response_model=PngInfo,
    openapi_extra=body_schema(PngInfoRequest),
    operation_id="a1111_png_info",
)
async def show(request: Request) -> Response:
    """The text in a picture file, whole, by keyword, and taken apart. All empty when there is none."""
    _, value = await read_json(request)
    asked = validated(PngInfoRequest, value)
    picture = await inputs.from_value(asked.image, "image", context.of(request).settings.limits)
    texts = read_texts(picture.data)
    whole = texts.get(infotext.KEYWORD, "")
    return JSONResponse({"info": whole, "items": texts, "parameters": parameters(whole)})


def parameters(text: str) -> dict[str, str]:
    """``text`` taken apart under the names that the web UI uses; empty for no text."""
    if not text:
        return {}
    parsed = infotext.parse(text)
    return {"Prompt": parsed.prompt, "Negative prompt": parsed.negative_prompt, **parsed.fields}
