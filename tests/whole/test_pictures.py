"""Pictures through everything: webuiapi, the command line, API, Redis, Celery, engine, card, files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from webuiapi import WebUIApi

from bench.stack import Stack
from config.settings import CHECKOUT
from tests.models.diffusion.tiny import write_tiny

DRAWER = "tiny-drawer"
SIDE = 96
PAUSED = {"class": "image"}


@pytest.fixture(scope="module")
def drawer(server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A picture model of a few kilobytes, put into the running server's directory."""
    made = write_tiny(tmp_path_factory.mktemp("packages") / DRAWER, SIDE, SIDE, mlp=False)
    place = server.data_dir / "models" / DRAWER
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    until(lambda: DRAWER in models(server))
    yield DRAWER
    shutil.rmtree(place)
    until(lambda: DRAWER not in models(server))


@pytest.fixture
def api(server: Stack, drawer: str) -> Iterator[WebUIApi]:
    made = WebUIApi(baseurl=f"{server.url}/sdapi/v1")
    yield made
    made.session.close()


def until(condition: Any, patience_s: float = 30.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def models(server: Stack) -> list[str]:
    return [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]]


def draw(api: WebUIApi, **options: Any) -> Any:
    settings = {"sd_model_checkpoint": DRAWER, **options.pop("override_settings", {})}
    size = {"width": SIDE, "height": SIDE}
    return api.txt2img(prompt="a red circle", override_settings=settings, **{**size, **options})


def pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def hearth(server: Stack, *arguments: str, at: Path) -> subprocess.Popen[str]:
    """The command line, as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HEARTH_URL": server.url}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=at,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_webuiapi_draws_the_same_picture_for_the_same_seed(api: WebUIApi) -> None:
    first = draw(api, seed=7, batch_size=2)
    again = draw(api, seed=8)
    assert pixels(first.images[1]) == pixels(again.image)
    assert pixels(first.images[0]) != pixels(again.image)
    assert (first.info["steps"], first.info["all_seeds"]) == (4, [7, 8])
    text = api.png_info(first.image).parameters
    assert (text["Prompt"], text["Seed"], text["Steps"], text["Sampler"]) == ("a red circle", "7", "4", "LCM")
    assert text["Model hash"] == first.info["sd_model_hash"]


def test_webuiapi_draws_from_a_picture_and_within_a_mask(api: WebUIApi) -> None:
    source = draw(api, seed=1).image
    mask = Image.new("L", source.size, 0)
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    settings = {"sd_model_checkpoint": DRAWER}
    options = {"prompt": "blue", "seed": 2, "width": SIDE, "height": SIDE, "override_settings": settings}
    whole = api.img2img(images=[source], denoising_strength=0.5, **options).image
    half = api.img2img(images=[source], denoising_strength=0.5, mask_image=mask, **options).image
    assert pixels(whole) != pixels(source) != pixels(half) != pixels(whole)


def test_files_of_other_formats_carry_their_text_too(api: WebUIApi) -> None:
    for name, kind in (("jpg", "JPEG"), ("webp", "WEBP")):
        drawn = draw(api, seed=3, override_settings={"samples_format": name})
        assert drawn.image.format == kind
        assert "Seed: 3" in drawn.info["infotexts"][0]


def test_a_model_is_taken_off_the_card_and_brought_back(server: Stack, api: WebUIApi) -> None:
    before = api.util_get_current_model()
    api.set_options({"sd_model_checkpoint": DRAWER})
    draw(api, seed=4)
    assert DRAWER in loaded(server)
    for action, is_there in (("unload", False), ("reload", True)):
        done = httpx.post(f"{api.baseurl}/{action}-checkpoint", timeout=60)
        assert (done.status_code, done.json()) == (200, {})
        until(lambda there=is_there: (DRAWER in loaded(server)) is there)
    api.set_options({"sd_model_checkpoint": before})


def loaded(server: Stack) -> list[str]:
    return [model["id"] for model in httpx.get(f"{server.url}/v1/models/loaded").json()["data"]]


def test_the_demo_model_draws_at_its_own_size(api: WebUIApi) -> None:
    assert "hearth-image" in api.util_get_model_names()
    with httpx.Client(base_url=api.baseurl.removesuffix("/sdapi/v1")) as client:
        facts = client.get("/v1/models/hearth-image").json()["hearth"]["pictures"]
    width, height = map(int, facts["sizes"][0].split("x"))
    settings = {"sd_model_checkpoint": "hearth-image"}
    drawn = api.txt2img(
        prompt="a red circle", width=width, height=height, override_settings=settings, seed=1, steps=4
    )
    assert drawn.image.size == (width, height)
    assert len(drawn.image.convert("RGB").getcolors(1 << 20)) > 50


def test_the_command_line_draws_what_webuiapi_draws(server: Stack, api: WebUIApi, tmp_path: Path) -> None:
    asked = ["image", "a red circle", "-m", DRAWER, "--seed", "7", "--steps", "4", "-n", "2", "-o", "out.png"]
    process = hearth(server, *asked, at=tmp_path)
    said, told = process.communicate(timeout=60)
    assert (process.returncode, said.split()) == (0, ["out-7.png", "out-8.png"]), told
    assert "step 4 of 4" in told
    with Image.open(tmp_path / "out-7.png") as image:
        assert pixels(image) == pixels(draw(api, seed=7).image)


@pytest.fixture
def paused(server: Stack, drawer: str) -> Iterator[None]:
    """No picture is drawn from now on: the worker has obeyed the pause, too."""
    httpx.post(f"{server.url}/v1/queue/pause", json=PAUSED).raise_for_status()
    until(lambda: not _is_drawn(server))
    yield
    httpx.post(f"{server.url}/v1/queue/resume", json=PAUSED).raise_for_status()


def _is_drawn(server: Stack) -> bool:
    """Whether a picture that is asked for now is begun within a second."""
    body = {"kind": "image", "model": DRAWER, "prompt": "is somebody there?"}
    job = httpx.post(f"{server.url}/v1/jobs", json=body, headers={"Prefer": "wait=1"}, timeout=10).json()
    httpx.post(f"{server.url}/v1/jobs/{job['id']}/cancel").raise_for_status()
    return bool(job["state"] != "queued")


@pytest.mark.usefixtures("paused")
def test_interrupting_the_command_line_cancels_its_jobs(server: Stack, tmp_path: Path) -> None:
    process = hearth(server, "image", "never", "-m", DRAWER, "-n", "2", at=tmp_path)
    until(lambda: states(server, "queued") == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    until(lambda: states(server, "queued") == 0)
    assert states(server, "cancelled") >= 2


def states(server: Stack, state: str) -> int:
    query = {"model": DRAWER, "state": state, "limit": "100"}
    return len(httpx.get(f"{server.url}/v1/jobs", params=query).json()["data"])


@pytest.mark.usefixtures("paused")
def test_what_waits_is_seen_and_interrupted(api: WebUIApi) -> None:
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw, api, batch_size=3)
        until(lambda: api.get_progress()["state"]["job_count"] == 3)
        assert api.get_progress()["textinfo"].startswith("Waiting: ")
        api.interrupt()
        assert drawing.result(30).images == []
    api.util_wait_for_ready(check_interval=0.05)
