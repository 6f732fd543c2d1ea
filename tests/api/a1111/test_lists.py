"""What clients fetch before they draw: lists, options, memory, and the text in a picture."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import httpx
import pytest
import redis
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import SecretStr

from api.a1111.lists import LISTS, REFUSED
from api.a1111.names import is_ours, is_sampler, is_scheduler
from config.settings import Settings
from tasks import board, keys
from tasks.board import Model, Pictures, PictureSize, Telemetry
from tasks.pictures.infotext import Infotext
from tests.api.conftest import client_of
from tests.api.support import CARD, TINY, publish

SHA256 = "0123456789abcdef" * 4


def drawer(name: str, sha256: str | None = None, **more: Any) -> Model:
    """A model that draws pictures."""
    pictures = Pictures((PictureSize(64, 64),), (1, 2, 4), 4, from_pictures=True, sha256=sha256)
    return Model(name, "image", f"/models/{name}", 10, 1_760_000_000, pictures=pictures, **more)


@pytest.fixture
async def two(settings: Settings, store: redis.Redis):  # type: ignore[no-untyped-def]
    """A house with two models that draw, one that cannot be used, and one that talks."""
    broken = drawer("broken", problem="the UNet is missing")
    publish(store, TINY, broken, drawer("first", SHA256, aliases=("org/First",)), drawer("second"))
    async with client_of(settings) as client:
        yield client


@pytest.mark.parametrize("path", LISTS)
async def test_every_list_is_there(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert response.json() == LISTS[path]


@pytest.mark.parametrize("path", REFUSED)
async def test_what_cannot_be_done_says_so(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, json={})
    assert response.status_code == 501
    assert response.json() == {
        "error": "HTTPException",
        "detail": REFUSED[path],
        "body": "",
        "errors": "",
    }


@pytest.mark.parametrize("path", ["refresh-checkpoints", "refresh-vae", "refresh-loras"])
async def test_refreshing_answers_json(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(f"/sdapi/v1/{path}")
    assert (response.status_code, response.text) == (200, "null")


async def test_the_models_are_those_that_draw(two: httpx.AsyncClient) -> None:
    told = (await two.get("/sdapi/v1/sd-models")).json()
    assert [(model["title"], model["hash"], model["sha256"]) for model in told] == [
        ("first", SHA256[:10], SHA256),
        ("second", None, None),
    ]


async def test_lists_need_no_model(settings: Settings, store: redis.Redis) -> None:
    async with client_of(settings) as client:
        assert (await client.get("/sdapi/v1/samplers")).status_code == 200
        starting = await client.get("/sdapi/v1/sd-models")
    assert starting.status_code == 503
    assert "starting" in starting.json()["detail"]


async def test_the_options_name_the_first_model_until_one_is_set(two: httpx.AsyncClient) -> None:
    told = (await two.get("/sdapi/v1/options")).json()
    assert (told["sd_model_checkpoint"], told["sd_checkpoint_hash"]) == ("first", SHA256)
    assert told["samples_format"] == "png"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("second", "second"),
        ("FIRST", "first"),
        ("org/First", "first"),
        (f"first [{SHA256[:10]}]", "first"),
        (f"first.safetensors [{SHA256[:10]}]", "first"),
        (SHA256[:10], "first"),
        (SHA256, "first"),
    ],
)
async def test_a_model_is_chosen_by_any_of_its_names(two: httpx.AsyncClient, name: str, meant: str) -> None:
    set_ = await two.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})
    assert (set_.status_code, set_.text) == (200, "null")
    assert (await two.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == meant


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("third", 404, "there is: first, second"),
        ("first [ffffffffff]", 404, SHA256[:10]),
        ("broken", 422, "the UNet is missing"),
        ("tiny-chat", 404, "there is: first, second"),
    ],
)
async def test_a_model_that_cannot_draw_is_not_chosen(
    two: httpx.AsyncClient, name: str, status: int, word: str
) -> None:
    refused = await two.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})
    assert refused.status_code == status
    assert word in json.dumps(refused.json()["detail"])
    assert (await two.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == "first"


async def test_open_webui_may_send_all_options_back(two: httpx.AsyncClient) -> None:
    options = (await two.get("/sdapi/v1/options")).json()
    options["sd_model_checkpoint"] = "second"
    response = await two.post("/sdapi/v1/options", json=options)
    assert response.status_code == 200
    assert "x-hearth-warnings" not in response.headers
    assert (await two.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == "second"


async def test_options_belong_to_a_key(settings: Settings, house: redis.Redis) -> None:
    for key, before, after in (("one", 80, 90), ("two", 80, 70), ("one", 90, 90)):
        own = settings.model_copy(update={"api_key": SecretStr(key)})
        async with client_of(own) as client:
            client.headers["Authorization"] = f"Bearer {key}"
            assert (await client.get("/sdapi/v1/options")).json()["jpeg_quality"] == before
            await client.post("/sdapi/v1/options", json={"jpeg_quality": after})


async def test_options_without_meaning_are_told_and_wrong_ones_refused(client: httpx.AsyncClient) -> None:
    told = await client.post("/sdapi/v1/options", json={"show_progress_every_n_steps": 3, "jpeg_quality": 90})
    assert "show_progress_every_n_steps" in told.headers["x-hearth-warnings"]
    assert (await client.get("/sdapi/v1/options")).json()["jpeg_quality"] == 90
    for wrong in (
        {"samples_format": "avif"},
        {"jpeg_quality": 0},
        {"CLIP_stop_at_last_layers": 2},
        {"sd_vae": "better.safetensors"},
    ):
        refused = await client.post("/sdapi/v1/options", json=wrong)
        assert refused.status_code == 422
        (name,) = wrong
        assert refused.json()["detail"][0]["loc"] == ["body", name]
    assert (await client.post("/sdapi/v1/options", json=[])).status_code == 422


async def test_memory_that_no_card_told_of_is_not_made_up(client: httpx.AsyncClient) -> None:
    told = (await client.get("/sdapi/v1/memory")).json()
    assert told["ram"]["total"] == told["ram"]["free"] + told["ram"]["used"] > 0
    assert "error" in told["cuda"]


async def test_the_cards_memory_stands_where_clients_look(settings: Settings, house: redis.Redis) -> None:
    reading = Telemetry(1, memory_total_bytes=7_000, memory_free_bytes=5_000)
    house.set(keys.telemetry(CARD), board.encode(reading))
    async with client_of(settings) as client:
        told = (await client.get("/sdapi/v1/memory")).json()
    assert told["cuda"] == {"system": {"free": 5_000, "used": 2_000, "total": 7_000}}


def picture(kind: str, text: str) -> bytes:
    image, file = Image.new("RGB", (8, 8)), BytesIO()
    if kind == "png":
        info = PngInfo()
        info.add_text("parameters", text)
        image.save(file, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + text.encode("utf-16-be")
        image.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
async def test_a_pictures_text_is_taken_apart(client: httpx.AsyncClient, kind: str, head: str) -> None:
    text = str(Infotext("a red circle, small", "blurry", {"Steps": "4", "Sampler": "LCM", "Size": "64x96"}))
    encoded = head + base64.b64encode(picture(kind, text)).decode()
    told = (await client.post("/sdapi/v1/png-info", json={"image": encoded})).json()
    assert told["info"] == told["items"]["parameters"] == text
    assert told["parameters"] == {
        "Prompt": "a red circle, small",
        "Negative prompt": "blurry",
        "Steps": "4",
        "Sampler": "LCM",
        "Size-1": "64",
        "Size-2": "96",
    }


async def test_a_picture_without_text_has_none(client: httpx.AsyncClient) -> None:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    told = (await client.post("/sdapi/v1/png-info", json={"image": encoded})).json()
    assert told == {"info": "", "items": {}, "parameters": {}}


@pytest.mark.parametrize("image", ["", "!", "aGVsbG8=", "http://elsewhere/picture.png", "data:image/png,x"])
async def test_what_is_no_picture_is_refused(client: httpx.AsyncClient, image: str) -> None:
    refused = await client.post("/sdapi/v1/png-info", json={"image": image})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "image"]


@pytest.mark.parametrize(
    "name", ["Euler a", "euler a", "k_euler_a", "DPM++ 2M Karras", "DPM++ 2M SDE Exponential", "LCM", "DDIM"]
)
def test_the_web_uis_samplers_are_known(name: str) -> None:
    assert is_sampler(name)


def test_other_names_are_not() -> None:
    assert not any(map(is_sampler, ("Euler b", "Karras", "")))
    assert all(map(is_scheduler, ("SGM Uniform", "sgm_uniform", "automatic")))
    assert not is_scheduler("mine")
    assert all(map(is_ours, ("LCM", "k_lcm", "Automatic")))
    assert not is_ours("Euler a")
