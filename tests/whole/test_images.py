"""Pictures through everything: OpenAI's SDK and native batches, API, Redis, Celery, engine, card, files."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from bench.stack import Stack
from tests.models.diffusion.tiny import write_tiny

PAINTER = "tiny-painter"
SIDE = 96


def until(condition: Any, patience_s: float = 30.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def models(server: Stack) -> list[str]:
    return [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]]


@pytest.fixture(scope="module")
def painter(server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A picture model of a few kilobytes, put into the running server's directory."""
    made = write_tiny(tmp_path_factory.mktemp("packages") / PAINTER, SIDE, SIDE, mlp=False)
    place = server.data_dir / "models" / PAINTER
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    until(lambda: PAINTER in models(server))
    yield PAINTER
    shutil.rmtree(place)
    until(lambda: PAINTER not in models(server))


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    image = Image.open(BytesIO(base64.b64decode(b64_json)))
    image.load()
    return image


def file_of(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def drawn(client: OpenAI, seed: int, **options: Any) -> list[Image.Image]:
    answer = client.images.generate(
        model=PAINTER, prompt="a red circle", extra_body={"seed": seed}, **options
    )
    return [opened(data.b64_json) for data in answer.data or ()]


def test_a_seed_is_a_picture_also_as_the_second_of_two(client: OpenAI, painter: str) -> None:
    first, second = drawn(client, 7, n=2)
    (again,) = drawn(client, 8)
    assert second.tobytes() == again.tobytes() != first.tobytes()
    assert first.size == (SIDE, SIDE)
    assert "Seed: 7," in first.info["parameters"]
    assert first.info["parameters"].startswith("a red circle\nSteps: 4, Sampler: LCM")


def test_an_edit_redraws_what_the_mask_leaves_open(client: OpenAI, painter: str) -> None:
    (source,) = drawn(client, 1)
    mask = Image.new("RGBA", source.size, "black")
    mask.paste((0, 0, 0, 0), (0, 0, SIDE // 2, SIDE))
    answer = client.images.edit(
        model=PAINTER, prompt="blue", image=file_of(source), mask=file_of(mask), extra_body={"seed": 2}
    )
    made = opened((answer.data or [])[0].b64_json)
    left, right = (0, 0, SIDE // 2, SIDE), (SIDE // 2, 0, SIDE, SIDE)
    assert made.crop(right).tobytes() == source.convert("RGB").crop(right).tobytes()
    assert made.crop(left).tobytes() != source.convert("RGB").crop(left).tobytes()


def test_a_stream_ends_in_the_picture(client: OpenAI, painter: str) -> None:
    stream = client.images.generate(
        model=PAINTER,
        prompt="a red circle",
        stream=True,
        partial_images=3,
        extra_body={"seed": 9},
    )
    *partial, last = list(stream)
    assert len(partial) <= 3
    assert last.type == "image_generation.completed"
    assert opened(last.b64_json).tobytes() == drawn(client, 9)[0].tobytes()


def test_a_grid_is_drawn_and_told(server: Stack, painter: str) -> None:
    grid = {"prompt": ["a red circle", "a blue square"], "steps": [1, 2], "format": ["png", "webp"]}
    body = {"kind": "image", "model": painter, "seed": 5, "class": "batch", "grid": grid}
    listed = httpx.post(f"{server.url}/v1/jobs", json=body).json()
    batch = f"{server.url}/v1/jobs/batches/{listed['batch']}"
    until(lambda: httpx.get(batch).json()["state"] == "ended")
    assert httpx.get(batch).json()["counts"]["succeeded"] == 8
    for ref, steps in zip(listed["jobs"], [1, 1, 2, 2] * 2, strict=True):
        job = httpx.get(server.url + ref["url"]).json()
        assert (job["input"]["steps"], job["progress"]["done"]) == (steps, steps)
        file = httpx.get(server.url + job["output"][0]["url"])
        assert file.headers["etag"] == f'"{job["output"][0]["sha256"]}"'
        with Image.open(BytesIO(file.content)) as image:
            assert f"image/{(image.format or '').lower()}" == file.headers["content-type"]


def test_a_picture_that_only_decoding_can_tell_is_damaged_harms_nobody(client: OpenAI, painter: str) -> None:
    whole = bytearray(file_of(Image.effect_noise((SIDE, SIDE), 50)))
    for at in range(60, len(whole) - 40, 7):
        whole[at] ^= 0x55
    with pytest.raises(openai.BadRequestError) as damaged:
        client.images.edit(model=painter, prompt="x", image=bytes(whole))
    assert (damaged.value.code, damaged.value.param) == ("invalid_image", "image")
    assert len(drawn(client, 3)) == 1
