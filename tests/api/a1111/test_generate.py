"""What stands around a picture: refusals, tasks by id, clients that leave, Open WebUI's sequence of calls."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from PIL import Image

from api.a1111.schemas import Img2ImgRequest, Txt2ImgRequest
from config.settings import Settings
from tasks import keys
from tests.api.a1111.conftest import DRAWER
from tests.api.conftest import Served, client_of
from tests.api.painting import a_picture
from tests.api.support import StandIn, publish, until
from tests.api.test_fuzz import JSON, QUIET, Fuzzed

QUICK = given_settings(QUIET, max_examples=60)

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
SMALL = {"width": 64, "height": 96}
SOURCE = {"init_images": [base64.b64encode(a_picture()).decode()]}
WITHOUT_ENCODER = {"override_settings": {"sd_model_checkpoint": "other"}, "width": 64, "height": 64}


@pytest.fixture
def http(served: Served, painter: StandIn):  # type: ignore[no-untyped-def]
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


@pytest.fixture
def second():  # type: ignore[no-untyped-def]
    with ThreadPoolExecutor(1) as pool:
        yield pool


def jobs_of(client: httpx.Client) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = client.get("/v1/jobs").json()["data"]
    return told


def test_the_calls_of_open_webui(http: httpx.Client) -> None:
    # Open WebUI, backend/open_webui/routers/images.py: verify, list, switch, draw.
    assert http.get("/sdapi/v1/options", headers={"authorization": ""}).status_code == 200
    listed = [(each["title"], each["model_name"]) for each in http.get("/sdapi/v1/sd-models").json()]
    assert listed == [("drawer", "drawer"), ("other", "other")]
    options = http.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"] == "drawer"
    options["sd_model_checkpoint"] = "other"
    assert http.post("/sdapi/v1/options", json=options).is_success
    body = {"prompt": "red", "batch_size": 2, "width": 64, "height": 64, "steps": 50, "negative_prompt": "x"}
    told = http.post(TXT2IMG, json=body).json()
    assert len(told["images"]) == 2
    with Image.open(BytesIO(base64.b64decode(told["images"][0]))) as image:
        assert image.size == (64, 64)
    assert json.loads(told["info"])["sd_model_name"] == "other"


def test_a_task_is_followed_by_the_id_the_client_gave_it(
    http: httpx.Client, second: ThreadPoolExecutor, painter: StandIn
) -> None:
    def told(**more: Any) -> Any:
        return http.post("/internal/progress", json={"id_task": "task(mine)", **more}).json()

    assert (told()["active"], told()["queued"], told()["completed"]) == (False, False, False)
    painter.pause()
    body = {"prompt": "wait for me", "force_task_id": "task(mine)"}
    drawing = second.submit(http.post, TXT2IMG, json=body)
    until(lambda: told()["queued"])
    assert told()["textinfo"] == "In queue: 1"
    assert http.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["task(mine)"]}
    painter.resume()
    until(lambda: told()["live_preview"])
    seen = told()
    assert (seen["active"], seen["queued"]) == (True, False)
    assert 0 < seen["progress"] < 1
    assert seen["live_preview"].startswith("data:image/jpeg;base64,")
    until(lambda: told(id_live_preview=told()["id_live_preview"])["live_preview"] is None)
    assert told(live_preview=False)["live_preview"] is None
    assert http.get("/internal/pending-tasks").json()["size"] == 0
    http.post("/sdapi/v1/interrupt")
    assert drawing.result(10).json()["images"] == []
    assert told()["completed"]


def test_what_waits_is_expected_when_the_queue_will_be_through(
    http: httpx.Client, second: ThreadPoolExecutor, painter: StandIn, house: redis.Redis
) -> None:
    house.hset(keys.RATES, "image.drawer", 5000)
    painter.pause()
    drawing = second.submit(http.post, TXT2IMG, json={"prompt": "red", "batch_size": 3})
    until(lambda: http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 3)
    assert 10 < http.get("/sdapi/v1/progress").json()["eta_relative"] < 20
    http.post("/sdapi/v1/interrupt")
    drawing.result(10)


def test_why_nothing_moves_is_told(http: httpx.Client, second: ThreadPoolExecutor, painter: StandIn) -> None:
    painter.pause()
    http.post("/v1/queue/pause", json={"message": "the gallery is closed"})
    drawing = second.submit(http.post, TXT2IMG, json={"prompt": "red"})
    until(lambda: http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 1)
    assert "the gallery is closed" in http.get("/sdapi/v1/progress").json()["textinfo"]
    http.post("/v1/queue/resume", json={})
    assert http.get("/sdapi/v1/progress").json()["textinfo"] == "In queue: 1"
    http.post("/sdapi/v1/interrupt")
    drawing.result(10)


def test_current_images_can_be_left_out_and_previews_switched_off(
    http: httpx.Client, second: ThreadPoolExecutor
) -> None:
    drawing = second.submit(http.post, TXT2IMG, json={"prompt": "wait for me"})
    until(lambda: http.get("/sdapi/v1/progress").json()["current_image"])
    assert http.get("/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
    http.post("/sdapi/v1/interrupt")
    drawing.result(10)
    body = {"prompt": "wait for me", "override_settings": {"live_previews_enable": False}}
    drawing = second.submit(http.post, TXT2IMG, json=body)
    until(lambda: http.get("/sdapi/v1/progress").json()["state"]["sampling_step"] == 2)
    assert http.get("/sdapi/v1/progress").json()["current_image"] is None
    http.post("/sdapi/v1/interrupt")
    drawing.result(10)


def test_a_client_that_leaves_takes_its_pictures_with_it(
    http: httpx.Client, second: ThreadPoolExecutor
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post(TXT2IMG, json={"prompt": "wait for me", "batch_size": 2}, timeout=0.3)
    until(lambda: [job["state"] for job in jobs_of(http)] == ["cancelled", "cancelled"])


def test_unless_it_wants_to_keep_them(http: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            TXT2IMG, json={"prompt": "slow one", "n_iter": 2}, timeout=0.1, headers={"x-hearth-keep": "true"}
        )
    until(lambda: [job["state"] for job in jobs_of(http)] == ["succeeded", "succeeded"])


def test_every_picture_is_a_job(http: httpx.Client) -> None:
    response = http.post(TXT2IMG, json={"prompt": "red", "batch_size": 2, **SMALL})
    ids = json.loads(response.json()["info"])["job_ids"]
    assert (response.headers["x-job-id"], response.headers["x-job-ids"]) == (ids[0], ",".join(ids))
    assert {job["id"] for job in jobs_of(http)} == set(ids)
    assert "steps" not in response.headers["x-hearth-warnings"]
    assert "cfg_scale" in response.headers["x-hearth-warnings"]


def test_warnings_of_the_engine_are_told_too(http: httpx.Client) -> None:
    told = http.post(TXT2IMG, json={"prompt": "long story", "cfg_scale": 1, **SMALL}).json()
    params = json.loads(told["info"])["extra_generation_params"]
    assert params["warnings"] == ["the prompt was cut after 77 tokens"]


def test_a_strict_client_gets_what_it_asked_for_or_nothing(http: httpx.Client) -> None:
    strict = {"x-hearth-strict": "true"}
    refused = http.post(TXT2IMG, json={"prompt": "red", "steps": 20}, headers=strict)
    assert refused.status_code == 422
    assert "steps is 4 instead of 20" in refused.json()["detail"]
    plain = {"prompt": "red", "steps": 4, "cfg_scale": 1, **SMALL}
    assert http.post(TXT2IMG, json=plain, headers=strict).status_code == 200
    assert len(jobs_of(http)) == 1


def test_the_same_key_draws_once(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "one"}
    first, again = (http.post(TXT2IMG, json={"prompt": "red", **SMALL}, headers=key) for _ in range(2))
    assert first.headers["x-job-id"] == again.headers["x-job-id"]
    assert first.json()["images"] == again.json()["images"]


@pytest.mark.parametrize(("prompt", "status"), [("lost", 500), ("damaged", 422)])
def test_a_picture_that_fails_fails_the_request(http: httpx.Client, prompt: str, status: int) -> None:
    response = http.post(TXT2IMG, json={"prompt": prompt, **SMALL})
    assert response.status_code == status
    assert response.json()["detail"]
    assert response.headers["x-job-id"].startswith("job_")
    assert http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


@pytest.mark.parametrize(
    ("fields", "loc", "word"),
    [
        ({"width": 500, "height": 500}, ["body", "width"], "512x512, 64x96"),
        ({"batch_size": 101}, ["body", "batch_size"], "1 to 100"),
        ({"batch_size": 10**30}, ["body", "batch_size"], "1 to 100"),
        ({"seed": 2**32}, ["body", "seed"], "0 to 4294967295"),
        ({"seed": -2}, ["body", "seed"], "0 to"),
        ({"prompt": "x" * 20_000}, ["body", "prompt"], "10000"),
        ({"tiling": True}, ["body", "tiling"], "tiles"),
    ],
)
def test_fields_at_fault_are_named(
    http: httpx.Client, fields: dict[str, Any], loc: list[str], word: str
) -> None:
    refused = http.post(TXT2IMG, json={"prompt": "red", **fields})
    assert refused.status_code == 422
    (fault,) = refused.json()["detail"]
    assert fault["loc"] == loc
    assert word in fault["msg"]


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({}, ["body", "init_images"]),
        ({"init_images": ["aGVsbG8="]}, ["body", "init_images", 0]),
        ({"init_images": ["http://elsewhere/x.png"]}, ["body", "init_images", 0]),
        ({"init_images": [7]}, ["body", "init_images", 0]),
        ({**SOURCE, "mask": "!"}, ["body", "mask"]),
        ({**SOURCE, "denoising_strength": 0.1}, ["body", "denoising_strength"]),
        ({**SOURCE, **WITHOUT_ENCODER}, ["body", "init_images"]),
    ],
)
def test_sources_at_fault_are_named(http: httpx.Client, fields: dict[str, Any], loc: list[Any]) -> None:
    refused = http.post(IMG2IMG, json={"prompt": "red", **fields})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == loc


def test_a_full_queue_says_when_to_come_again(settings: Settings, house: redis.Redis) -> None:
    with_little = settings.model_copy(update={"queue": settings.queue.model_copy(update={"image_cap": 1})})
    fuzzed = Fuzzed(client_of(with_little))
    try:
        status, body = fuzzed.post(TXT2IMG, json.dumps({"batch_size": 2}).encode())
    finally:
        fuzzed.close()
    assert status == 429
    assert body == {"error": "HTTPException", "detail": body["detail"], "body": "", "errors": ""}


async def test_unknown_paths_are_refused_in_this_dialect(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings) as client:
        for path in ("/sdapi/v1/server-kill", "/sdapi/v1/txt2img/"):
            refused = await client.post(path)
            assert refused.status_code == 404
            assert path in refused.json()["detail"]
        assert (await client.post(TXT2IMG, content=b"{")).json()["detail"]
        bad_query = await client.get("/sdapi/v1/progress?skip_current_image=perhaps")
    assert bad_query.status_code == 422


def test_progress_is_the_callers_own(served: Served, painter: StandIn, house: redis.Redis) -> None:
    call = {"id": "t", "kind": "txt2img", "created_at_ms": 1, "jobs": ["job_gone"], "steps": 4}
    house.hset(keys.calls("somebody"), "t", json.dumps(call))
    house.hset(keys.calls("anonymous"), "t", json.dumps(call))
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
    assert house.hlen(keys.calls("somebody")) == 1
    assert house.hlen(keys.calls("anonymous")) == 0
    assert house.lrange(keys.past_calls("anonymous"), 0, -1) == [b"t"]


FIELDS = sorted({*Txt2ImgRequest.model_fields, *Img2ImgRequest.model_fields})
BODY = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.sampled_from([1e999, 10**40, [{}], "Euler a"]), max_size=5
)


@pytest.fixture
def fuzzed(settings: Settings, store: redis.Redis):  # type: ignore[no-untyped-def]
    # A closed queue: what would be accepted is answered 429, and nobody waits for it.
    publish(store, DRAWER)
    closed = settings.model_copy(update={"queue": settings.queue.model_copy(update={"image_cap": 1})})
    made = Fuzzed(client_of(closed))
    yield made
    made.close()


@QUICK
@given(path=st.sampled_from([TXT2IMG, IMG2IMG, "/sdapi/v1/options", "/sdapi/v1/png-info"]), body=BODY | JSON)
def test_no_field_breaks_it(fuzzed: Fuzzed, path: str, body: Any) -> None:
    if isinstance(body, dict):
        body["batch_size"] = 2
    status, told = fuzzed.post(
        path, json.dumps(body).replace("Infinity", "1e999").replace("NaN", "0").encode()
    )
    assert status < 500
    assert status == 200 or told["detail"]


@QUICK
@given(body=JSON)
def test_no_json_breaks_progress(fuzzed: Fuzzed, body: Any) -> None:
    status, told = fuzzed.post("/internal/progress", json.dumps(body).replace("Infinity", "1").encode())
    assert status == 422
    assert told["detail"]
