"""OpenAI's images with the official SDK against the real server, unchanged."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import redis
from PIL import Image

from tasks import keys
from tasks.jobs import ImageJob, decode
from tests.api.conftest import Served
from tests.api.painting import a_picture, colour_of
from tests.api.support import StandIn, until


@pytest.fixture
def sdk(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def worker(bulk_worker: StandIn) -> StandIn:
    return bulk_worker


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return Image.open(BytesIO(base64.b64decode(b64_json)))


def job_of(house: redis.Redis, job_id: str) -> ImageJob:
    raw: Any = house.hget(keys.job(job_id), "job")
    job = decode(raw)
    assert isinstance(job, ImageJob)
    return job


def test_a_picture_is_drawn(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.images.generate(prompt="a fox in the snow", model="pictures", extra_body={"seed": 77})
    assert answer.data is not None
    (only,) = answer.data
    with opened(only.b64_json) as image:
        assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (64, 64), colour_of(77))
    assert (answer.size, answer.output_format, answer.quality) == ("64x64", "png", "medium")
    assert answer.background == "opaque"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.total_tokens) == (7, 7)
    assert answer.usage.input_tokens_details.text_tokens == 7
    assert only.model_extra == {"seed": 77}


def test_two_pictures_of_another_size_and_format(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    raw = sdk.images.with_raw_response.generate(
        prompt="a fox", n=2, size="64x96", quality="low", output_format="jpeg", output_compression=60,
        style="vivid", moderation="low", user="me", background="auto",
        extra_body={"seed": 5, "negative_prompt": "rain", "guidance_scale": 1.5},
    )  # fmt: skip
    answer = raw.parse()
    assert answer.data is not None
    assert len(answer.data) == 2
    for index, data in enumerate(answer.data):
        with opened(data.b64_json) as image:
            assert (image.format, image.size) == ("JPEG", (64, 96))
        assert data.model_extra is not None
        assert data.model_extra["seed"] == 5 + index
    ids = raw.headers["x-job-ids"].split(",")
    assert raw.headers["x-job-id"] == ids[0]
    assert answer.model_extra is not None
    assert answer.model_extra["hearth"] == {"model": "pictures", "steps": 2, "jobs": ids}
    job = job_of(house, ids[1])
    assert (job.steps, job.quality, job.guidance_scale, job.negative_prompt) == (2, 60, 1.5, "rain")
    told = raw.headers["x-hearth-warnings"]
    assert "style has no effect" in told
    assert "moderation" in told
    assert "user" not in told


def test_pictures_as_addresses(sdk: openai.OpenAI, served: Served, worker: StandIn) -> None:
    answer = sdk.images.generate(prompt="a fox", response_format="url")
    assert answer.data is not None
    url = answer.data[0].url
    assert url is not None
    assert url.startswith(f"{served.url}/v1/jobs/job_")
    assert answer.data[0].b64_json is None
    response = httpx.get(url)
    assert response.headers["content-type"] == "image/png"


def test_a_stream_with_partial_images(sdk: openai.OpenAI, worker: StandIn) -> None:
    stream = sdk.images.generate(prompt="slow fox", stream=True, partial_images=3)
    began = time.monotonic()
    events, arrivals = [], []
    for event in stream:
        events.append(event)
        arrivals.append(time.monotonic() - began)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + [
        "image_generation.completed"
    ]
    for index, event in enumerate(events[:-1]):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == index
        with opened(event.b64_json) as image:
            assert event.output_format == (image.format or "").lower()
    last = events[-1]
    assert last.type == "image_generation.completed"
    with opened(last.b64_json) as image:
        assert image.size == (64, 64)
    assert last.usage.total_tokens == 4
    assert (last.size, last.quality, last.background) == ("64x64", "medium", "opaque")
    # The first is there before the last is drawn.
    assert arrivals[-1] - arrivals[0] > 0.1


@pytest.mark.parametrize(("count", "steps"), [(0, []), (1, [2]), (2, [1, 3])])
def test_fewer_partial_images_are_spread(
    sdk: openai.OpenAI, worker: StandIn, count: int, steps: list[int]
) -> None:
    stream = sdk.images.generate(prompt="a fox", stream=True, partial_images=count)
    told = [event for event in stream if event.type == "image_generation.partial_image"]
    colours = []
    for event in told:
        with opened(event.b64_json) as image:
            red, _, _ = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
            colours.append(round(red / 40))
    assert colours == steps


def test_an_edit_with_a_file(sdk: openai.OpenAI, worker: StandIn, house: redis.Redis, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(a_picture(size=(64, 96)))
    with file.open("rb") as image:
        raw = sdk.images.with_raw_response.edit(
            image=image, prompt="a dog", n=2, extra_body={"strength": 0.5, "seed": 3, "steps": 4}
        )
    answer = raw.parse()
    assert answer.data is not None
    assert [data.model_extra for data in answer.data] == [{"seed": 3}, {"seed": 4}]
    # The size is the picture's own.
    assert answer.size == "64x96"
    job = job_of(house, raw.headers["x-job-id"])
    assert job.source is not None
    assert (job.source.strength, job.source.mask_sha256) == (0.5, None)


def test_an_edit_with_a_list_and_a_mask(sdk: openai.OpenAI, worker: StandIn, house: redis.Redis) -> None:
    raw = sdk.images.with_raw_response.edit(
        image=[("cat.png", a_picture())], mask=("mask.png", a_picture(colour="white")), prompt="a dog",
        input_fidelity="high",
    )  # fmt: skip
    job = job_of(house, raw.headers["x-job-id"])
    assert job.source is not None
    assert (job.source.strength, job.source.mask_by) == (0.75, "transparent")
    assert job.source.mask_sha256 not in (None, job.source.sha256)
    assert "input_fidelity" in raw.headers["x-hearth-warnings"]


def test_an_edit_as_a_stream(sdk: openai.OpenAI, worker: StandIn) -> None:
    stream = sdk.images.edit(image=a_picture(), prompt="a dog", stream=True, partial_images=2)
    assert [event.type for event in stream] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]


def test_errors_are_the_sdks_own(sdk: openai.OpenAI, served: Served, worker: StandIn) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.images.generate(prompt="x", size="1024x1024")
    assert (bad.value.param, bad.value.code) == ("size", "size_unsupported")
    assert "64x64, 64x96" in bad.value.message
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.images.generate(prompt="x", model="dall-e-3")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as text:
        sdk.images.edit(image=("cat.png", b"just text"), prompt="x")
    assert (text.value.param, text.value.code) == ("image", "invalid_image")
    with pytest.raises(openai.BadRequestError) as many:
        sdk.images.edit(image=[a_picture(), a_picture()], prompt="x")
    assert many.value.param == "image"
    with pytest.raises(openai.APIStatusError) as retired, pytest.warns(match="deprecated"):
        sdk.images.create_variation(image=a_picture())
    assert retired.value.status_code == 410
    with pytest.raises(openai.InternalServerError) as lost:
        sdk.images.generate(prompt="lost", n=2)
    assert lost.value.code == "worker_lost"
    with pytest.raises(openai.BadRequestError) as damaged:
        sdk.images.edit(image=a_picture(), prompt="damaged")
    assert (damaged.value.param, damaged.value.code) == ("image", "invalid_image")
    with pytest.raises(openai.APIError) as failed:
        list(sdk.images.generate(prompt="lost", stream=True))
    assert failed.value.code == "worker_lost"
    assert len(sdk.images.generate(prompt="a fox").data or ()) == 1


def test_picture_models_say_what_they_draw(sdk: openai.OpenAI, house: redis.Redis) -> None:
    model = sdk.models.retrieve("org/Pictures")
    assert model.model_extra is not None
    assert model.model_extra["hearth"]["pictures"] == {
        "sizes": ["64x64", "64x96"],
        "steps": [1, 2, 4],
        "default_steps": 4,
        "from_pictures": True,
    }


def test_who_hangs_up_takes_all_his_pictures_along(
    served: Served, worker: StandIn, house: redis.Redis
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/v1/images/generations", json={"prompt": "wait", "n": 6}, timeout=0.7)
    ids: Any = house.zrange(keys.JOBS, 0, -1)
    assert len(ids) == 6
    until(lambda: all(house.hget(keys.job(each.decode()), "state") == b"cancelled" for each in ids))


def test_a_kept_picture_outlives_its_caller(served: Served, worker: StandIn, house: redis.Redis) -> None:
    headers = {"x-hearth-keep": "true"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{served.url}/v1/images/generations", json={"prompt": "slow"}, headers=headers, timeout=0.1
        )
    ids: Any = house.zrange(keys.JOBS, 0, -1)
    until(lambda: house.hget(keys.job(ids[0].decode()), "state") == b"succeeded")
