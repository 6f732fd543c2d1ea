"""OpenAI's images in detail: JSON and forms, every field, bad input."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis

from api.openai.image_answer import shown_steps
from api.openai.image_schemas import ImagesOut
from api.pictures.drawing import Drawing, image_jobs
from api.terms import Terms
from config.settings import Settings
from tasks import keys
from tasks.jobs import ImageJob, JobClass, decode
from tests.api.conftest import client_of
from tests.api.painting import a_picture
from tests.api.pictures.test_inputs import BOMB, png
from tests.api.support import PICTURES, TINY, StandIn, publish

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
PICTURE = a_picture()
BASE64 = base64.b64encode(PICTURE).decode()
URI = f"data:image/png;base64,{BASE64}"


def job_in(house: redis.Redis, response: httpx.Response) -> ImageJob:
    raw: Any = house.hget(keys.job(response.headers["x-job-id"]), "job")
    job = decode(raw)
    assert isinstance(job, ImageJob)
    return job


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": None}, "invalid_type", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": ["a"]}, "invalid_type", "prompt"),
        ({"prompt": "x" * 10_001}, "invalid_value", "prompt"),
        ({"negative_prompt": "x" * 10_001}, "invalid_value", "negative_prompt"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 11}, "invalid_value", "n"),
        ({"n": "2"}, "invalid_type", "n"),
        ({"n": 2, "stream": True}, "unsupported_value", "n"),
        ({"size": "1024x1024"}, "size_unsupported", "size"),
        ({"size": "big"}, "invalid_value", "size"),
        ({"size": "64X64"}, "invalid_value", "size"),
        ({"quality": "best"}, "invalid_value", "quality"),
        ({"steps": 0}, "unsupported_value", "steps"),
        ({"steps": 10_000}, "unsupported_value", "steps"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"guidance_scale": 7.5}, "invalid_value", "guidance_scale"),
        ({"response_format": "file"}, "invalid_value", "response_format"),
        ({"output_format": "svg"}, "unsupported_value", "output_format"),
        ({"output_format": "gif"}, "unsupported_value", "output_format"),
        ({"output_format": "bmp"}, "invalid_value", "output_format"),
        ({"output_compression": 101}, "invalid_value", "output_compression"),
        ({"background": "transparent"}, "unsupported_value", "background"),
        ({"partial_images": 4}, "invalid_value", "partial_images"),
        ({"model": "tiny-chat"}, "unsupported_value", "model"),
        ({"model": "gpt-image-2"}, "model_not_found", "model"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_field_at_fault_is_named(
    client: httpx.AsyncClient, house: redis.Redis, fields: dict[str, Any], code: str, param: str
) -> None:
    for path, more in ((GENERATE, {}), (EDIT, {"image": BASE64})):
        response = await client.post(path, json={"prompt": "a fox", **more, **fields})
        error = response.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert response.status_code == (404 if code == "model_not_found" else 400)
        assert len(error["message"]) < 300
    assert house.zcard(keys.JOBS) == 0


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_required_parameter", "image"),
        ({"image": None}, "missing_required_parameter", "image"),
        ({"image": []}, "missing_required_parameter", "image"),
        ({"image": ""}, "invalid_value", "image"),
        ({"image": 5}, "invalid_type", "image"),
        ({"image": "http://example.org/cat.png"}, "unsupported_value", "image"),
        ({"image": "AAA"}, "invalid_image", "image"),
        ({"image": base64.b64encode(BOMB).decode()}, "invalid_image", "image"),
        ({"image": base64.b64encode(png(10_000, 10_000)).decode()}, "invalid_image", "image"),
        ({"image": base64.b64encode(PICTURE[:-9]).decode()}, "invalid_image", "image"),
        ({"image": [BASE64, BASE64]}, "unsupported_value", "image"),
        (
            {"images": [{"image_url": "https://example.org/cat.png"}]},
            "unsupported_value",
            "images[0].image_url",
        ),
        ({"images": [{"file_id": "file-1"}]}, "unsupported_value", "images"),
        ({"image": BASE64, "mask": "?"}, "invalid_image", "mask"),
        ({"image": BASE64, "strength": 0}, "invalid_value", "strength"),
        ({"image": BASE64, "strength": 2}, "invalid_value", "strength"),
        ({"image": BASE64, "strength": 0.1}, "invalid_value", "strength"),
        ({"image": BASE64, "quality": "low", "strength": 0.25}, "invalid_value", "strength"),
        ({"image": BASE64, "markup": BASE64}, "unsupported_value", "markup"),
        ({"image": BASE64, "resize": "tile"}, "invalid_value", "resize"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_picture_at_fault_is_named(
    client: httpx.AsyncClient, house: redis.Redis, fields: dict[str, Any], code: str, param: str
) -> None:
    response = await client.post(EDIT, json={"prompt": "a dog", **fields})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    assert house.zcard(keys.JOBS) == 0


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"prompt": "x", "strength": "nan"}, {"image": PICTURE}, "strength"),
        ({"prompt": "x", "strength": "1e999"}, {"image": PICTURE}, "strength"),
        ({"prompt": "x", "strength": "much"}, {"image": PICTURE}, "strength"),
        ({"prompt": "x", "guidance_scale": "NaN"}, {"image": PICTURE}, "guidance_scale"),
        ({"prompt": "x", "n": "many"}, {"image": PICTURE}, "n"),
        ({"prompt": "x", "n": "99"}, {"image": PICTURE}, "n"),
        ({"prompt": "x", "steps": "10000"}, {"image": PICTURE}, "steps"),
        ({"prompt": "x", "size": "1x1"}, {"image": PICTURE}, "size"),
        ({"prompt": "x", "stream": "perhaps"}, {"image": PICTURE}, "stream"),
        ({}, {"image": PICTURE}, "prompt"),
        ({"prompt": "x"}, {"mask": PICTURE}, "image"),
        ({"prompt": "x"}, {"image": ("cat.png", b"text", "image/png")}, "image"),
        ({"prompt": "x"}, {"image": b""}, "image"),
        ({"prompt": "x"}, {"image": BOMB}, "image"),
        ({"prompt": "x"}, {"image": PICTURE, "mask": PICTURE[:50]}, "mask"),
        ({"prompt": "x"}, {"image": PICTURE, "image[]": PICTURE}, "image"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_form_at_fault_is_named(
    client: httpx.AsyncClient, house: redis.Redis, data: Any, files: Any, param: str
) -> None:
    response = await client.post(EDIT, data=data, files=files)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert house.zcard(keys.JOBS) == 0


async def test_what_is_no_form_is_refused(client: httpx.AsyncClient) -> None:
    for kind, body, status in (
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nbroken", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("text/plain", b"x", 415),
        ("application/x-www-form-urlencoded", b"prompt=x", 415),
    ):
        response = await client.post(EDIT, content=body, headers={"Content-Type": kind})
        assert response.status_code == status, (kind, response.text)
        assert response.json()["error"]["message"]
    many = {f"f{n}": "x" for n in range(200)}
    response = await client.post(EDIT, data=many, files={"image": PICTURE})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_form")


async def test_a_body_beyond_the_cap_is_refused(settings: Settings, house: redis.Redis) -> None:
    limits = settings.limits.model_copy(update={"picture_body_bytes": 5_000_000, "picture_bytes": 100})
    async with client_of(settings.model_copy(update={"limits": limits})) as client:
        response = await client.post(EDIT, data={"prompt": "x"}, files={"image": bytes(6_000_000)})
        assert response.status_code == 413
        response = await client.post(EDIT, data={"prompt": "x"}, files={"image": PICTURE})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "image_too_large")


@pytest.mark.parametrize(
    ("quality", "steps"), [(None, 4), ("auto", 4), ("low", 2), ("medium", 4), ("high", 4), ("hd", 4)]
)
async def test_quality_is_steps(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis, quality: str | None, steps: int
) -> None:
    response = await client.post(GENERATE, json={"prompt": "x", "quality": quality})
    told = ImagesOut.model_validate(response.json())
    assert told.hearth.steps == job_in(house, response).steps == steps
    assert "x-hearth-warnings" not in response.headers


async def test_quality_without_its_steps_is_the_packages_own(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    assert PICTURES.pictures is not None
    from dataclasses import replace

    publish(
        house, TINY, replace(PICTURES, pictures=replace(PICTURES.pictures, steps=(1, 3), default_steps=3))
    )
    async with client_of(settings) as client:
        response = await client.post(GENERATE, json={"prompt": "x", "quality": "low"})
        assert response.json()["hearth"]["steps"] == 3
        assert "quality low has no effect" in response.headers["x-hearth-warnings"]
        response = await client.post(GENERATE, json={"prompt": "x", "quality": "low", "steps": 1})
        assert response.json()["hearth"]["steps"] == 1
        assert "quality has no effect beside steps" in response.headers["x-hearth-warnings"]


async def test_what_has_no_effect_is_told(client: httpx.AsyncClient, worker: StandIn) -> None:
    body = {
        "prompt": "long", "n": 2, "style": "natural", "partial_images": 2, "complexity": "high", "cfg": 7,
        "output_compression": 5, "svg": {}, "safety_identifier": "x", "negative_prompt": "rain",
    }  # fmt: skip
    told = (await client.post(GENERATE, json=body)).headers["x-hearth-warnings"].split("; ")
    assert len(told) == len(set(told))
    for word in ("style", "partial_images", "complexity", "svg", "'cfg'", "output_compression", "77 tokens"):
        assert any(word in warning for warning in told), word
    assert any("negative_prompt has no effect while guidance_scale is 1" in warning for warning in told)


@pytest.mark.parametrize(
    "fields",
    [
        {"image": BASE64},
        {"image": URI},
        {"image": [URI]},
        {"image": {"image_url": URI}},
        {"images": [{"image_url": URI}]},
    ],
    ids=lambda value: str(value)[:30],
)
async def test_json_may_hold_a_picture_in_several_ways(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis, fields: dict[str, Any]
) -> None:
    body = {"prompt": "a dog", "mask": {"image_url": URI}, **fields}
    response = await client.post(EDIT, json=body)
    assert response.status_code == 200, response.text
    source = job_in(house, response).source
    assert source is not None
    assert source.sha256 == source.mask_sha256


async def test_a_form_repeated_with_its_key_is_one_job(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    headers = {"Idempotency-Key": "k"}
    told = [
        await client.post(EDIT, data={"prompt": "x", "n": "2"}, files={"image": PICTURE}, headers=headers)
        for _ in range(2)
    ]
    assert told[0].headers["x-job-ids"] == told[1].headers["x-job-ids"]
    assert told[0].json() == told[1].json()
    assert house.zcard(keys.JOBS) == 2
    other = await client.post(EDIT, data={"prompt": "y"}, files={"image": PICTURE}, headers=headers)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")


async def test_a_full_queue_says_when_to_come_back(settings: Settings, house: redis.Redis) -> None:
    small = settings.model_copy(update={"queue": settings.queue.model_copy(update={"image_cap": 1})})
    async with client_of(small) as client:
        assert (await client.post("/v1/jobs", json={"kind": "image", "prompt": "x"})).status_code == 202
        response = await client.post(GENERATE, json={"prompt": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
        assert int(response.headers["retry-after"]) >= 1


async def test_without_a_picture_model_the_answer_says_so(settings: Settings, house: redis.Redis) -> None:
    publish(house, TINY)
    async with client_of(settings) as client:
        response = await client.post(GENERATE, json={"prompt": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("steps", "count", "shown"),
    [
        (4, 0, set()),
        (4, 1, {2}),
        (4, 2, {1, 3}),
        (4, 3, {1, 2, 3}),
        (2, 3, {1}),
        (1, 3, set()),
        (8, 3, {2, 4, 6}),
    ],
)
def test_previews_are_spread_over_the_drawing(steps: int, count: int, shown: set[int]) -> None:
    plain = Settings.model_construct()
    (job,) = image_jobs(Drawing(prompt="x"), PICTURES, Terms("me", JobClass.IMAGE), plain)
    assert shown_steps(replace(job, steps=steps), count) == shown


async def test_the_retired_endpoint_answers_without_reading(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/images/variations", files={"image": bytes(3_000_000)})
    assert (response.status_code, response.json()["error"]["code"]) == (410, "endpoint_retired")
