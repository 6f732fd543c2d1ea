"""webuiapi 0.9.17, as people have it, against the real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from PIL import Image
from webuiapi import ADetailer, ControlNetUnit, Upscaler, WebUIApi

from config.settings import Settings
from tests.api.a1111.conftest import SHA256
from tests.api.conftest import Served, serve
from tests.api.painting import colour_of
from tests.api.support import StandIn, until


@pytest.fixture
def api(served: Served, painter: StandIn) -> Iterator[WebUIApi]:
    made = WebUIApi(baseurl=f"{served.url}/sdapi/v1")
    yield made
    made.session.close()


@pytest.fixture
def second() -> Iterator[ThreadPoolExecutor]:
    """A second thread: the first one's calls block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_picture_with_nothing_but_defaults(api: WebUIApi) -> None:
    result = api.txt2img(prompt="a red circle")
    assert result.image.size == (512, 512)
    info = result.info
    assert result.image.convert("RGB").getpixel((5, 5)) == colour_of(info["seed"])
    assert (info["steps"], info["sampler_name"], info["cfg_scale"]) == (4, "LCM", 1.0)
    assert (info["width"], info["height"]) == (512, 512)
    assert info["sd_model_name"] == "drawer"
    assert info["sd_model_hash"] == SHA256[:10]
    assert info["all_seeds"] == [info["seed"]]
    assert len(info["job_ids"]) == len(info["infotexts"]) == 1
    assert info["infotexts"][0].startswith("a red circle\n")
    told = " ".join(info["extra_generation_params"]["warnings"])
    assert all(word in told for word in ("steps is 4 instead of 20", "cfg_scale", "Euler a"))
    assert result.parameters["steps"] == 4
    assert result.parameters["prompt"] == "a red circle"


def test_many_pictures_have_seeds_in_a_row(api: WebUIApi) -> None:
    result = api.txt2img(prompt="circles", seed=7, batch_size=2, n_iter=2, steps=1, width=64, height=96)
    assert [image.convert("RGB").getpixel((0, 0)) for image in result.images] == [
        colour_of(seed) for seed in (7, 8, 9, 10)
    ]
    assert result.images[0].size == (64, 96)
    assert result.info["all_seeds"] == [7, 8, 9, 10]
    assert result.info["steps"] == 1


def test_a_picture_from_a_picture(api: WebUIApi, served: Served) -> None:
    source = Image.new("RGB", (40, 30), "blue")
    result = api.img2img(images=[source], prompt="red", seed=3, denoising_strength=0.5, resize_mode=1)
    assert result.image.size == (512, 512)
    assert result.info["denoising_strength"] == 0.5
    assert result.parameters["init_images"] is None
    (job_id,) = result.info["job_ids"]
    job = httpx.get(f"{served.url}/v1/jobs/{job_id}").json()
    assert job["state"] == "succeeded"
    kept = api.img2img(images=[source], prompt="red", include_init_images=True, mask_image=source)
    assert kept.parameters["init_images"][0].startswith("data:image/png;base64,")
    assert kept.parameters["mask"]


def test_the_text_in_a_picture_comes_back(api: WebUIApi) -> None:
    drawn = api.txt2img(prompt="a red circle, small", seed=5, width=64, height=96)
    read = api.png_info(drawn.image)
    assert read.info == drawn.info["infotexts"][0]
    assert read.parameters["Prompt"] == "a red circle, small"
    assert (read.parameters["Seed"], read.parameters["Size-1"], read.parameters["Size-2"]) == (
        "5",
        "64",
        "96",
    )


def test_progress_from_a_second_thread(api: WebUIApi, second: ThreadPoolExecutor) -> None:
    assert api.get_progress()["state"]["job_count"] == 0
    drawing = second.submit(api.txt2img, prompt="slow circles", batch_size=2)
    seen: list[dict[str, Any]] = []
    while not drawing.done():
        seen.append(api.get_progress())
        time.sleep(0.01)
    assert len(drawing.result().images) == 2
    busy = [each for each in seen if each["state"]["job_count"]]
    assert all(each["state"]["job_count"] == 2 for each in busy)
    shares = [each["progress"] for each in busy]
    assert shares == sorted(shares)
    assert all(0 < share <= 1 for share in shares)
    assert {each["state"]["job_no"] for each in busy} >= {0, 1}
    assert {each["state"]["sampling_step"] for each in busy} & {1, 2, 3}
    assert {each["state"]["sampling_steps"] for each in busy} == {4}
    assert any(each["current_image"] for each in busy)
    assert any(each["eta_relative"] > 0 for each in busy)
    api.util_wait_for_ready(check_interval=0.01)
    idle = api.get_progress()
    assert (idle["progress"], idle["eta_relative"], idle["current_image"]) == (0.0, 0.0, None)


def going(api: WebUIApi, step: int = 2) -> None:
    """Wait until the picture in the making has come to ``step``."""
    until(lambda: api.get_progress()["state"]["sampling_step"] >= step)


def test_interrupting_answers_with_what_there_is(api: WebUIApi, second: ThreadPoolExecutor) -> None:
    drawing = second.submit(api.txt2img, prompt="wait for me", batch_size=3)
    going(api)
    assert api.interrupt() == {}
    result = drawing.result(10)
    assert result.images == []
    assert "0 of 3 pictures" in result.info["extra_generation_params"]["warnings"][-1]
    until(lambda: api.get_progress()["state"]["job_count"] == 0)
    assert api.interrupt() == {}  # with nothing to interrupt it is no error


def test_skipping_goes_on_with_the_next_picture(
    api: WebUIApi, second: ThreadPoolExecutor, served: Served
) -> None:
    drawing = second.submit(api.txt2img, prompt="wait for me", seed=1, batch_size=2)
    going(api)
    assert api.skip() is None
    until(lambda: api.get_progress()["state"]["job_no"] == 1)
    going(api)
    assert api.skip() is None
    assert drawing.result(10).images == []


def test_a_picture_that_was_cancelled_is_missing_and_its_seed_too(
    api: WebUIApi, second: ThreadPoolExecutor, painter: StandIn, served: Served
) -> None:
    painter.pause()
    drawing = second.submit(api.txt2img, prompt="red", seed=1, n_iter=3)
    until(lambda: api.get_progress()["state"]["job_count"] == 3)
    waiting = httpx.get(f"{served.url}/v1/jobs").json()["data"]
    httpx.post(f"{served.url}/v1/jobs/{waiting[1]['id']}/cancel")
    painter.resume()
    result = drawing.result(10)
    assert result.info["all_seeds"] == [1, 3]
    assert [image.convert("RGB").getpixel((0, 0)) for image in result.images] == [*map(colour_of, (1, 3))]
    assert "2 of 3 pictures" in result.info["extra_generation_params"]["warnings"][-1]


def test_another_model_is_set_by_any_name_that_comes_close(
    api: WebUIApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.util_get_model_names() == ["drawer", "other"]
    assert api.util_get_current_model() == "drawer"
    api.util_set_model("othr")
    assert api.util_get_current_model() == "other"
    result = api.txt2img(prompt="red", width=64, height=64)
    assert result.info["sd_model_name"] == "other"
    once = api.txt2img(prompt="red", override_settings={"sd_model_checkpoint": "drawer"})
    assert once.info["sd_model_name"] == "drawer"
    assert api.util_get_current_model() == "other"


def test_every_list_can_be_fetched(api: WebUIApi) -> None:
    assert api.util_get_sampler_names() == ["LCM"]
    assert api.util_get_scheduler_names() == ["automatic"]
    assert api.get_upscalers()[0]["name"] == "None"
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_cmd_flags() == {}
    assert api.refresh_checkpoints() is None
    assert set(api.get_memory()) == {"ram", "cuda"}
    for fetch in (
        api.get_latent_upscale_modes,
        api.get_loras,
        api.get_sd_vae,
        api.get_hypernetworks,
        api.get_face_restorers,
        api.get_realesrgan_models,
        api.get_prompt_styles,
    ):
        assert fetch() == []


def test_setting_options_answers_json(api: WebUIApi) -> None:
    assert api.set_options({"samples_format": "jpg"}) is None
    assert api.get_options()["samples_format"] == "jpg"
    assert api.txt2img(prompt="red").image.format == "JPEG"
    assert api.txt2img(prompt="red", override_settings={"samples_format": "webp"}).image.format == "WEBP"


def test_what_cannot_be_drawn_is_refused(api: WebUIApi) -> None:
    unit = ControlNetUnit(image=Image.new("RGB", (8, 8)))
    for asked in (
        {"width": 500},
        {"enable_hr": True},
        {"adetailer": [ADetailer()]},
        {"controlnet_units": [unit]},
    ):
        with pytest.raises(RuntimeError) as refused:
            api.txt2img(prompt="red", alwayson_scripts={}, **asked)
        status, text = refused.value.args
        assert status == 422
        assert '"detail"' in text
    with pytest.raises(RuntimeError, match="404"):
        api.txt2img(prompt="red", sampler_name="Euler b")
    with pytest.raises(RuntimeError, match="upscaler"):
        api.extra_single_image(Image.new("RGB", (8, 8)), upscaler_1=Upscaler.Lanczos)


def test_a_disabled_extension_does_no_harm(api: WebUIApi) -> None:
    api.has_adetailer = api.has_animatediff = api.has_controlnet = True
    assert api.txt2img(prompt="red", alwayson_scripts={}, width=64, height=96).image


def test_without_images_they_stay_on_the_server(api: WebUIApi, served: Served) -> None:
    result = api.txt2img(prompt="red", send_images=False, width=64, height=96)
    assert result.images == []
    assert result.info["infotexts"][0].startswith("red")


def test_the_key_is_the_password(
    settings: Settings, house: redis.Redis, begin: Callable[[Served], StandIn]
) -> None:
    served = serve(settings, HEARTH_API_KEY="s3cret")
    try:
        begin(served)
        known = WebUIApi(baseurl=f"{served.url}/sdapi/v1", username="anybody", password="s3cret")
        assert known.txt2img(prompt="red", width=64, height=96).image
        known.session.close()
        unknown = WebUIApi(baseurl=f"{served.url}/sdapi/v1", username="anybody", password="secret")
        with pytest.raises(RuntimeError, match="401"):
            unknown.txt2img(prompt="red")
        unknown.session.close()
    finally:
        served.terminate()
