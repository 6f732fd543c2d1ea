"""The lists that clients fetch to fill their menus. Nothing here touches a card or the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import context
from api.a1111 import checkpoints
from api.a1111.names import SAMPLER, SCHEDULER
from api.a1111.schemas import Checkpoint, MemoryOut
from api.board import CardFacts
from api.errors import Refusal

router = APIRouter(tags=["Automatic1111"])

_NO_EXTRAS = "there is no upscaler and no face restorer here: enlarge pictures yourself"
_MEMINFO = Path("/proc/meminfo")

LISTS: dict[str, Any] = {
    "/sdapi/v1/samplers": [{"name": SAMPLER, "aliases": ["k_lcm"], "options": {}}],
    "/sdapi/v1/schedulers": [
        {
            "name": "automatic",
            "label": SCHEDULER,
            "aliases": None,
            "default_rho": -1.0,
            "need_inner_model": False,
        }
    ],
    "/sdapi/v1/upscalers": [
        {"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1.0}
    ],
    "/sdapi/v1/scripts": {"txt2img": [], "img2img": []},
    "/sdapi/v1/embeddings": {"loaded": {}, "skipped": {}},
    "/sdapi/v1/cmd-flags": {},
    **{
        f"/sdapi/v1/{name}": []
        for name in (
            "latent-upscale-modes",
            "sd-vae",
            "sd-modules",
            "loras",
            "hypernetworks",
            "face-restorers",
            "realesrgan-models",
            "prompt-styles",
            "script-info",
            "extensions",
        )
    },
}
"""What there is; and, empty, what there is not: a client must not fail for want of styles."""

REFUSED: dict[str, str] = {
    "/sdapi/v1/extra-single-image": _NO_EXTRAS,
    "/sdapi/v1/extra-batch-images": _NO_EXTRAS,
    "/sdapi/v1/interrogate": "this server has no model that describes pictures",
}
"""What clients may call and would be deceived by any other answer."""


def _list_route(path: str, body: Any) -> None:
    async def show() -> Response:
        return JSONResponse(body)

    # The empty ones would fill the documentation with what there is not.
    router.add_api_route(path, show, methods=["GET"], include_in_schema=False)


def _refused_route(path: str, message: str) -> None:
    async def refuse() -> Response:
        raise Refusal("not_supported", message)

    router.add_api_route(path, refuse, methods=["POST"], include_in_schema=False)


for _path, _body in LISTS.items():
    _list_route(_path, _body)
for _path, _message in REFUSED.items():
    _refused_route(_path, _message)


@router.get("/sdapi/v1/sd-models", response_model=list[Checkpoint], operation_id="a1111_sd_models")
async def models(request: Request) -> Response:
    """The models that draw pictures."""
    catalog = await context.of(request).board.catalog()
    return JSONResponse([checkpoints.told(model) for model in checkpoints.usable(catalog)])


@router.post("/sdapi/v1/refresh-checkpoints", operation_id="a1111_refresh_checkpoints")
@router.post("/sdapi/v1/refresh-vae", include_in_schema=False)
@router.post("/sdapi/v1/refresh-loras", include_in_schema=False)
async def refresh() -> Response:
    """Nothing to do: the models directory is looked through at every change by itself."""
    return JSONResponse(None)


@router.get("/internal/ping", include_in_schema=False)
async def ping() -> Response:
    return JSONResponse({})


@router.get("/sdapi/v1/memory", response_model=MemoryOut, operation_id="a1111_memory")
async def memory(request: Request) -> Response:
    """Bytes of the computer's memory, and of the card's as `cuda`."""
    cards = await context.of(request).board.cards()
    return JSONResponse({"ram": _ram(), "cuda": _card(cards)})


def _ram() -> dict[str, Any]:
    try:
        lines = (line.split(":") for line in _MEMINFO.read_text("ascii").splitlines())
        kib = {name: int(value.split()[0]) for name, value in lines}
        total, free = kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    except (OSError, ValueError, KeyError):
        return {"error": "not known on this system"}
    return {"free": free, "used": total - free, "total": total}


def _card(cards: tuple[CardFacts, ...]) -> dict[str, Any]:
    for card in cards:
        reading = card.telemetry
        if reading is None or reading.memory_total_bytes is None or reading.memory_free_bytes is None:
            continue
        total, free = reading.memory_total_bytes, reading.memory_free_bytes
        return {"system": {"free": free, "used": total - free, "total": total}}
    return {"error": "no card has told of its memory lately"}
