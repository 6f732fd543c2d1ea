"""Pictures as native jobs: one, lists, grids, batches; their files and previews."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import httpx
import pytest
import redis
from PIL import Image
from pydantic import SecretStr

from api.jobs.schemas import BatchOut, JobList, JobOut
from config.settings import Settings
from tasks import keys
from tasks.artifacts import ArtifactStore
from tasks.jobs import ImageJob, decode
from tests.api.conftest import client_of
from tests.api.painting import a_picture, colour_of
from tests.api.pictures.test_inputs import BOMB, png
from tests.api.support import StandIn, ask, until

WAIT = {"Prefer": "wait=10"}
SOURCE = base64.b64encode(a_picture(colour="green")).decode()


def draw(prompt: str = "a fox", /, **fields: Any) -> dict[str, Any]:
    return {"kind": "image", "prompt": prompt, **fields}


async def ended(client: httpx.AsyncClient, body: Any) -> Any:
    response = await client.post("/v1/jobs", json=body, headers=WAIT)
    assert response.status_code == 200, response.text
    return response.json()


async def settled(client: httpx.AsyncClient, batch: str) -> dict[str, Any]:
    """A batch when all its jobs have ended."""
    async with asyncio.timeout(30):
        while True:
            told: dict[str, Any] = (await client.get(f"/v1/jobs/batches/{batch}")).json()
            BatchOut.model_validate(told)
            if told["state"] == "ended":
                return told
            await asyncio.sleep(0.02)


async def fault(client: httpx.AsyncClient, body: Any) -> tuple[int, str, str | None]:
    response = await client.post("/v1/jobs", json=body)
    error = response.json()["error"]
    assert len(error["message"]) < 300
    return response.status_code, error["code"], error["param"]


def job_in(house: redis.Redis, job_id: str) -> ImageJob:
    raw: Any = house.hget(keys.job(job_id), "job")
    job = decode(raw)
    assert isinstance(job, ImageJob)
    return job


async def test_a_picture_is_drawn_and_served(client: httpx.AsyncClient, worker: StandIn) -> None:
    job = await ended(client, draw(seed=77, model="org/Pictures", metadata={"for": "me"}))
    JobOut.model_validate(job)
    assert (job["kind"], job["model"], job["queue"]) == ("image", "pictures", "image.pictures")
    assert job["progress"] == {"done": 4, "total": 4, "unit": "steps"}
    assert job["input"] == {
        "prompt": "a fox", "negative_prompt": "", "size": "64x64", "steps": 4, "seed": 77,
        "guidance_scale": 1.0, "format": "png", "quality": None, "previews": False, "source": None,
    }  # fmt: skip
    (made,) = job["output"]
    assert job["urls"]["output"] == [made["url"]] == [f"/v1/jobs/{job['id']}/images/0"]
    assert (made["type"], made["media_type"], made["seed"]) == ("image", "image/png", 77)
    assert (made["width"], made["height"]) == (64, 64)
    response = await client.get(made["url"])
    assert response.status_code == 200
    assert len(response.content) == made["size_bytes"]
    with Image.open(BytesIO(response.content)) as image:
        assert image.getpixel((0, 0)) == colour_of(77)
    headers = response.headers
    assert headers["content-type"] == "image/png"
    assert headers["etag"] == f'"{made["sha256"]}"'
    assert "immutable" in headers["cache-control"]
    assert headers["content-disposition"] == 'inline; filename="pictures-77.png"'
    assert headers["x-content-type-options"] == "nosniff"
    for known in (headers["etag"], f"W/{headers['etag']}", f'"other", {headers["etag"]}', "*"):
        again = await client.get(made["url"], headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert (await client.get(made["url"], headers={"If-None-Match": '"other"'})).status_code == 200
    head = await client.head(made["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(made["size_bytes"]))


async def test_the_first_usable_picture_model_is_taken(client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json=draw())).json()
    assert (job["model"], job["state"]) == ("pictures", "queued")
    assert job["input"]["seed"] < 2**32 - 1


async def test_a_picture_from_a_picture(
    client: httpx.AsyncClient, worker: StandIn, settings: Settings, house: redis.Redis
) -> None:
    body = draw(
        image=f"data:image/png;base64,{SOURCE}", strength=0.5, resize="crop", mask=SOURCE,
        mask_by="transparent", format="webp", quality=70, size="64x96",
    )  # fmt: skip
    job = await ended(client, body)
    source = job["input"]["source"]
    assert (source["strength"], source["resize"], source["mask_by"]) == (0.5, "crop", "transparent")
    assert source["sha256"] == source["mask_sha256"]
    kept = ArtifactStore(settings.data_dir).input(source["sha256"])
    assert kept.read_bytes() == base64.b64decode(SOURCE)
    assert job["progress"]["done"] == 2
    response = await client.get(job["urls"]["output"][0])
    assert response.headers["content-type"] == "image/webp"
    with Image.open(BytesIO(response.content)) as image:
        assert (image.format, image.size) == ("WEBP", (64, 96))
    assert SOURCE not in json.dumps(job)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"size": "512x512"}, "size_unsupported", "size"),
        ({"size": "large"}, "invalid_value", "size"),
        ({"size": [64, 64]}, "invalid_type", "size"),
        ({"steps": 0}, "unsupported_value", "steps"),
        ({"steps": 10_000}, "unsupported_value", "steps"),
        ({"steps": 2.5}, "invalid_type", "steps"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"seed": 2**32}, "invalid_value", "seed"),
        ({"seed": 2**70}, "invalid_value", "seed"),
        ({"guidance_scale": 7}, "invalid_value", "guidance_scale"),
        ({"guidance_scale": 0.5}, "invalid_value", "guidance_scale"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 1001}, "invalid_value", "n"),
        ({"quality": 0}, "invalid_value", "quality"),
        ({"format": "gif"}, "invalid_value", "format"),
        ({"model": "no-such"}, "model_not_found", "model"),
        ({"model": "tiny-chat"}, "unsupported_value", "model"),
        ({"class": "chat"}, "invalid_value", "class"),
        ({"metadata": {"a": "b" * 600}}, "invalid_value", "metadata.a"),
        ({"prompt": None}, "invalid_type", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": "x" * 10_001}, "invalid_value", "prompt"),
        ({"negative_prompt": "x" * 10_001}, "invalid_value", "negative_prompt"),
        ({"image": "https://example.org/cat.png"}, "unsupported_value", "image"),
        ({"image": "not base64!"}, "invalid_image", "image"),
        ({"image": base64.b64encode(b"text called .png").decode()}, "invalid_image", "image"),
        ({"image": base64.b64encode(BOMB).decode()}, "invalid_image", "image"),
        ({"image": base64.b64encode(png(10_000, 10_000)).decode()}, "invalid_image", "image"),
        ({"image": base64.b64encode(a_picture()[:-20]).decode()}, "invalid_image", "image"),
        ({"image": 5}, "invalid_type", "image"),
        ({"image": SOURCE, "mask": "%"}, "invalid_image", "mask"),
        ({"mask": SOURCE}, "unsupported_value", "mask"),
        ({"image": SOURCE, "strength": 0}, "invalid_value", "strength"),
        ({"image": SOURCE, "strength": 1.5}, "invalid_value", "strength"),
        ({"image": SOURCE, "strength": 0.1}, "invalid_value", "strength"),
        ({"image": SOURCE, "strength": "nan"}, "invalid_type", "strength"),
        ({"image": SOURCE, "resize": "tile"}, "invalid_value", "resize"),
        ({"grid": {"size": ["64x64", "65x65"]}}, "size_unsupported", "grid.size[1]"),
        ({"grid": {"steps": [1, 2, 3]}}, "unsupported_value", "grid.steps[2]"),
        ({"grid": {"seeds": [1, 2, 3]}}, "invalid_value", "grid.seeds"),
        ({"grid": {"seed": list(range(1001))}}, "invalid_value", "grid"),
        ({"grid": {"seed": list(range(600))}, "n": 2}, "invalid_value", None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_field_at_fault_is_named_and_nothing_is_queued(
    client: httpx.AsyncClient, house: redis.Redis, fields: dict[str, Any], code: str, param: str | None
) -> None:
    status, told, named = await fault(client, {**draw(), **fields})
    assert (told, named) == (code, param)
    assert status == (404 if code == "model_not_found" else 400)
    assert house.zcard(keys.JOBS) == 0
    listed = [ask(), {**draw(), **fields}]
    assert (await fault(client, listed))[2] == "[1]" + (f".{param}" if param else "")


async def test_json_that_is_none_or_beyond_numbers_is_refused(client: httpx.AsyncClient) -> None:
    for number, code in (("NaN", "invalid_json"), ("1e999", "invalid_value")):
        body = f'{{"kind":"image","prompt":"x","image":"{SOURCE}","strength":{number}}}'
        response = await client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert response.json()["error"]["code"] == code


async def test_a_prompt_that_is_missing_is_told(client: httpx.AsyncClient) -> None:
    assert (await fault(client, {"kind": "image"}))[1:] == ("missing_required_parameter", "prompt")


async def test_what_has_no_effect_stands_in_the_warnings(client: httpx.AsyncClient) -> None:
    body = draw(negative_prompt="rain", strength=0.5, quality=5, mask_by="white", width=512, sampler="x" * 99)
    told = (await client.post("/v1/jobs", json=body)).json()["warnings"]
    for word in ("negative_prompt", "strength", "quality", "mask_by", "'width'", "'xxx"):
        assert any(word in warning for warning in told) is (word != "'xxx")
    assert all(len(warning) < 120 for warning in told)


async def test_n_makes_a_batch_of_seeds(client: httpx.AsyncClient, worker: StandIn) -> None:
    listed = await ended(client, draw(n=3, seed=2**32 - 2))
    JobList.model_validate(listed)
    assert [job["input"]["seed"] for job in listed["data"]] == [2**32 - 2, 2**32 - 1, 0]
    assert {job["batch"] for job in listed["data"]} == {listed["batch"]}
    assert listed["jobs"] == [
        {"id": job["id"], "state": "succeeded", "url": job["urls"]["self"]} for job in listed["data"]
    ]


async def test_a_grid_is_every_combination_in_order(client: httpx.AsyncClient, worker: StandIn) -> None:
    grid: dict[str, list[Any]] = {"prompt": ["a fox", "an owl"], "size": ["64x64", "64x96"], "seed": [1, 2]}
    response = await client.post("/v1/jobs", json={"kind": "image", "steps": 1, "grid": grid})
    assert response.status_code == 202
    listed = response.json()
    told = [(job["input"]["prompt"], job["input"]["size"], job["input"]["seed"]) for job in listed["data"]]
    assert told == [(p, z, s) for p in grid["prompt"] for z in grid["size"] for s in grid["seed"]]
    batch = listed["batch"]
    assert response.headers["location"] == f"/v1/jobs?batch={batch}"
    await asyncio.to_thread(until, lambda: len(worker.seen) == 8)

    told_batch = await settled(client, batch)
    assert told_batch["counts"]["succeeded"] == told_batch["total"] == 8
    assert told_batch["progress"] == {"done": 8, "total": 8, "unit": "jobs"}
    assert told_batch["created_at"] <= told_batch["started_at"] <= told_batch["ended_at"]
    page = (await client.get(told_batch["urls"]["jobs"] + "&limit=100")).json()
    assert [job["id"] for job in page["data"]] == [job["id"] for job in reversed(listed["data"])]
    assert page["batch"] == batch


async def test_a_grid_of_one_is_a_batch_too(client: httpx.AsyncClient) -> None:
    listed = (await client.post("/v1/jobs", json=draw(grid={"seed": [5]}))).json()
    assert (len(listed["jobs"]), listed["batch"][:6]) == (1, "batch_")


async def test_chats_can_be_a_grid(client: httpx.AsyncClient, worker: StandIn) -> None:
    messages = [[{"role": "user", "content": f"say {word}"}] for word in "ab"]
    listed = await ended(
        client, {"model": "tiny-chat", "grid": {"messages": messages, "temperature": [0, 1]}}
    )
    assert [job["output"][0]["text"] for job in listed["data"]] == ["a", "a", "b", "b"]


async def test_a_list_may_hold_everything(client: httpx.AsyncClient, worker: StandIn) -> None:
    listed = await ended(client, [ask("say hi"), draw(n=2), draw(grid={"seed": [1, 2]}, steps=1), draw()])
    assert [job["kind"] for job in listed["data"]] == ["chat", *["image"] * 5]
    assert {job["batch"] for job in listed["data"]} == {listed["batch"]}
    assert {job["state"] for job in listed["data"]} == {"succeeded"}


async def test_a_picture_given_many_times_is_kept_once(client: httpx.AsyncClient, settings: Settings) -> None:
    body = {"kind": "image", "prompt": "x", "image": SOURCE, "grid": {"strength": [0.25, 0.5, 0.75, 1]}}
    listed = (await client.post("/v1/jobs", json=body)).json()
    assert [job["input"]["source"]["strength"] for job in listed["data"]] == [0.25, 0.5, 0.75, 1.0]
    assert len(list((settings.data_dir / "inputs").iterdir())) == 1


async def test_the_same_key_gives_the_same_grid(client: httpx.AsyncClient, house: redis.Redis) -> None:
    body, headers = draw(grid={"seed": [1, 2, 3]}), {"Idempotency-Key": "g"}
    first = await client.post("/v1/jobs", json=body, headers=headers)
    again = await client.post("/v1/jobs", json=body, headers=headers)
    assert again.json()["jobs"] == first.json()["jobs"]
    assert again.json()["batch"] == first.json()["batch"]
    assert again.headers["idempotency-replayed"] == "true"
    assert house.zcard(keys.JOBS) == 3


async def test_a_grid_is_admitted_whole_or_not_at_all(settings: Settings, house: redis.Redis) -> None:
    small = settings.model_copy(update={"queue": settings.queue.model_copy(update={"image_cap": 4})})
    async with client_of(small) as client:
        assert (await client.post("/v1/jobs", json=draw(grid={"seed": [1, 2]}))).status_code == 202
        response = await client.post("/v1/jobs", json=draw(grid={"seed": [1, 2, 3]}))
        assert response.status_code == 429
        assert response.json()["error"]["code"] == "queue_full"
        assert int(response.headers["retry-after"]) >= 1
        assert house.zcard(keys.JOBS) == 2
        response = await client.post("/v1/jobs", json=draw(grid={"seed": [1, 2, 3, 4, 5]}))
        assert "the class batch takes 5000" in response.json()["error"]["message"]
        batch = draw(grid={"seed": [1, 2, 3, 4, 5]}, **{"class": "batch"})
        assert (await client.post("/v1/jobs", json=batch)).status_code == 202


async def test_a_batch_is_cancelled_as_one(client: httpx.AsyncClient, worker: StandIn) -> None:
    worker.pause()
    listed = (await client.post("/v1/jobs", json=draw("wait", n=20))).json()
    worker.resume()
    await asyncio.to_thread(until, lambda: worker.seen)
    answer = await client.post(f"/v1/jobs/batches/{listed['batch']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["counts"]["queued"] == 0
    told = await settled(client, listed["batch"])
    assert told["counts"]["cancelled"] == 20


async def test_failed_jobs_are_tried_again_in_their_batch(client: httpx.AsyncClient, worker: StandIn) -> None:
    listed = await ended(client, draw("odd", grid={"seed": [1, 2, 3]}))
    url = f"/v1/jobs/batches/{listed['batch']}"
    assert (await client.get(url)).json()["counts"]["failed"] == 2
    worker.pause()
    told = await asyncio.gather(*(client.post(f"{url}/retry-failed") for _ in range(4)))
    assert {answer.status_code for answer in told} == {202}
    JobList.model_validate(told[0].json())
    ids = [[job["id"] for job in answer.json()["jobs"]] for answer in told]
    assert all(each == ids[0] for each in ids)
    assert len(ids[0]) == 2
    first = told[0].json()["data"][0]
    assert (first["input"]["seed"], first["retry_of"]) == (1, listed["data"][0]["id"])
    assert (await client.get(listed["data"][0]["urls"]["self"])).json()["retried_as"] == first["id"]
    seen = (await client.get(url)).json()
    assert (seen["total"], seen["retried"], seen["counts"]["queued"], seen["state"]) == (3, 2, 2, "running")


async def test_a_batch_is_foretold(client: httpx.AsyncClient, worker: StandIn) -> None:
    worker.pause()
    listed = (await client.post("/v1/jobs", json=draw(n=5))).json()
    told = (await client.get(listed["data"][0]["urls"]["batch"])).json()
    etas = [job["eta"] for job in listed["data"]]
    assert told["eta"]["starts_at"] == pytest.approx(etas[0]["starts_at"], abs=2)
    assert told["eta"]["ends_at"] == pytest.approx(etas[-1]["ends_at"], abs=2)
    assert told["eta"]["ends_at"] - told["eta"]["starts_at"] > 60
    worker.resume()
    assert (await settled(client, listed["batch"]))["eta"] is None


async def test_a_batch_of_five_thousand_is_told_quickly(
    client: httpx.AsyncClient, settings: Settings, house: redis.Redis
) -> None:
    body = draw(grid={"seed": list(range(1000))}, **{"class": "batch"})
    batch = (await client.post("/v1/jobs", json=body)).json()["batch"]
    entries: Any = house.zrange(keys.batch(batch), 0, 0, withscores=True)
    fields: Any = house.hgetall(keys.job(entries[0][0].decode()))
    with house.pipeline() as pipe:
        for n in range(4000):
            pipe.hset(keys.job(f"job_{n}"), mapping=fields)
            pipe.zadd(keys.batch(batch), {f"job_{n}": entries[0][1] + n})
        pipe.execute()
    began = time.perf_counter()
    told = (await client.get(f"/v1/jobs/batches/{batch}")).json()
    assert told["counts"]["queued"] == 5000
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("batch", ["batch_" + "0" * 40, "x", "batch_%00", "\u2028", "job_" + "0" * 40])
async def test_a_batch_that_is_not_there_is_404(client: httpx.AsyncClient, batch: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry-failed")):
        response = await client.request(method, f"/v1/jobs/batches/{batch}{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "batch_not_found")


@pytest.fixture
async def stranger(settings: Settings, house: redis.Redis) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with a key of his own, over the same Redis."""
    own = settings.model_copy(update={"api_key": SecretStr("theirs")})
    async with client_of(own) as client:
        client.headers["Authorization"] = "Bearer theirs"
        yield client


async def test_nobody_sees_another_ones_pictures(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, worker: StandIn
) -> None:
    listed = await ended(client, draw(n=2, previews=True))
    job = listed["data"][0]
    for url in (job["urls"]["output"][0], job["urls"]["preview"], job["urls"]["batch"]):
        assert (await client.get(url)).status_code == 200
        assert (await stranger.get(url)).status_code == 404
    assert (await stranger.post(f"/v1/jobs/batches/{listed['batch']}/cancel")).status_code == 404
    assert (await stranger.get("/v1/jobs", params={"batch": listed["batch"]})).json()["data"] == []


async def test_a_picture_that_is_not_there_says_why(
    client: httpx.AsyncClient, worker: StandIn, settings: Settings
) -> None:
    async def told(job: dict[str, Any], path: str = "/images/0") -> tuple[int, str]:
        response = await client.get(job["urls"]["self"] + path)
        return response.status_code, response.json()["error"]["code"]

    worker.pause()
    waiting = (await client.post("/v1/jobs", json=draw(previews=True))).json()
    assert await told(waiting) == (409, "picture_not_ready")
    assert await told(waiting, "/preview") == (409, "picture_not_ready")
    await client.post(waiting["urls"]["cancel"])
    assert await told(waiting) == (404, "picture_not_found")
    assert await told(waiting, "/preview") == (404, "picture_not_found")
    worker.resume()
    assert await told(await ended(client, draw("lost"))) == (404, "picture_not_found")
    assert await told(await ended(client, ask())) == (404, "picture_not_found")
    done = await ended(client, draw())
    assert await told(done, "/images/1") == (404, "picture_not_found")
    assert await told(done, "/images/-1") == (400, "invalid_value")
    assert await told(done, "/images/x") == (400, "invalid_value")
    assert await told(done, "/preview") == (404, "picture_not_found")
    for file in (settings.data_dir / "artifacts").rglob("*.png"):
        file.unlink()
    assert await told(done) == (410, "picture_gone")


async def test_previews_are_events_with_an_address(client: httpx.AsyncClient, worker: StandIn) -> None:
    job = await ended(client, draw(previews=True))
    stream = (await client.get(job["urls"]["events"])).text
    events = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds[3:] == [
        "step_done",
        "preview",
        "step_done",
        "preview",
        "step_done",
        "preview",
        "step_done",
        "finished",
    ]
    assert '"path"' not in stream
    shown = [event for event in events if event["type"] == "preview"]
    assert [event["step"] for event in shown] == [1, 2, 3]
    for event in shown:
        response = await client.get(event["picture"]["url"])
        assert response.headers["etag"] == f'"{event["picture"]["sha256"]}"'
        assert response.headers["content-type"] == event["picture"]["media_type"] == "image/jpeg"
        assert "immutable" in response.headers["cache-control"]
    latest = await client.get(job["urls"]["preview"])
    assert (latest.status_code, latest.headers["cache-control"]) == (200, "private, no-cache")
    assert latest.headers["etag"] == f'"{shown[-1]["picture"]["sha256"]}"'
    assert events[-1]["output"][0]["url"] == job["output"][0]["url"]
    assert (await client.get(job["urls"]["preview"], params={"step": 9})).status_code == 404
    assert (await client.get(job["urls"]["preview"], params={"step": 0})).status_code == 400


async def test_a_list_is_shown_though_one_record_cannot_be_read(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    jobs = [(await client.post("/v1/jobs", json=draw())).json() for _ in range(3)]
    house.hset(keys.job(jobs[1]["id"]), "job", '{"kind":"opera"}')
    house.hset(keys.job(jobs[2]["id"]), "state", "dreaming")
    page = await client.get("/v1/jobs", params={"limit": 2})
    assert page.status_code == 200
    assert page.json()["data"] == page.json()["jobs"] == []
    assert page.json()["unreadable"] == [jobs[2]["id"], jobs[1]["id"]]
    assert (page.json()["has_more"], page.json()["last_id"]) == (True, jobs[1]["id"])
    rest = (await client.get("/v1/jobs", params={"after": page.json()["last_id"]})).json()
    assert ([job["id"] for job in rest["data"]], rest["unreadable"]) == ([jobs[0]["id"]], [])
    one = await client.get(f"/v1/jobs/{jobs[1]['id']}")
    assert (one.status_code, one.json()["error"]["code"]) == (500, "job_unreadable")
