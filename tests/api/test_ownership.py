"""What belongs to one key does not exist for another: every id in a path, every list, every filter.

The routes are taken from the application: one with an id in its path that has no row here fails the test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from ipaddress import ip_network

import httpx
import pytest
import redis

from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks import connection
from tasks.keys import READY
from tests.api.conftest import client_of
from tests.api.routes import routes_of
from tests.api.support import PICTURES, TEXTS, TINY, StandIn, ask, publish, until

SECRET = "the-owners-secret-words"
Make = Callable[[httpx.AsyncClient], Awaitable[str]]


async def _picture_job(owner: httpx.AsyncClient) -> str:
    """The id of an ended job with a picture and previews."""
    drawn = {"kind": "image", "prompt": SECRET, "previews": True}
    job = await owner.post("/v1/jobs", json=drawn, headers={"Prefer": "wait=20"})
    assert job.json().get("state") == "succeeded", job.text
    return str(job.json()["id"])


async def _vectors(owner: httpx.AsyncClient) -> str:
    """The id of an ended job with vectors."""
    body = {"kind": "embed", "input": SECRET}
    made = await owner.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
    assert made.json().get("state") == "succeeded", made.text
    return str(made.json()["id"])


async def _batch(owner: httpx.AsyncClient) -> str:
    made = await owner.post("/v1/jobs", json=[ask(SECRET)] * 2, headers={"Prefer": "wait=20"})
    return str(made.json()["batch"])


async def _file(owner: httpx.AsyncClient) -> str:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": ask(SECRET)}
    made = await owner.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": (f"{SECRET}.jsonl", json.dumps(line).encode())}
    )
    return str(made.json()["id"])


async def _file_batch(owner: httpx.AsyncClient) -> str:
    return str((await owner.post("/v1/batches", json=_of_file(await _file(owner)))).json()["id"])


def _of_file(file_id: str) -> dict[str, str]:
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


async def _response(owner: httpx.AsyncClient) -> str:
    """The id of an ended response."""
    made = await owner.post(
        "/v1/responses", json={"model": "tiny-chat", "input": SECRET, "background": True, "stream": True}
    )
    assert "response.completed" in made.text, made.text
    return "resp_" + made.headers["x-job-id"].removeprefix("job_")


async def _endpoint(owner: httpx.AsyncClient) -> str:
    made = await owner.post("/v1/webhook_endpoints", json={"url": f"http://127.0.0.1:1/{SECRET}"})
    return str(made.json()["id"])


JOB = (_picture_job, "job_" + "0" * 40)
VECTORS = (_vectors, "job_" + "0" * 40)
BATCH = (_batch, "batch_" + "0" * 40)
FILE = (_file, "file-" + "0" * 40)
FILE_BATCH = (_file_batch, "batch_" + "0" * 40)
RESPONSE = (_response, "resp_" + "0" * 40)
ENDPOINT = (_endpoint, "we_" + "0" * 24)

OWNED: dict[str, tuple[Make, str]] = {
    "/v1/batches/{batch_id}": FILE_BATCH,
    "/v1/batches/{batch_id}/cancel": FILE_BATCH,
    "/v1/files/{file_id}": FILE,
    "/v1/files/{file_id}/content": FILE,
    "/v1/jobs/{job_id}": JOB,
    "/v1/jobs/{job_id}/cancel": JOB,
    "/v1/jobs/{job_id}/embeddings": VECTORS,
    "/v1/jobs/{job_id}/events": JOB,
    "/v1/jobs/{job_id}/images/{number}": JOB,
    "/v1/jobs/{job_id}/preview": JOB,
    "/v1/jobs/batches/{batch_id}": BATCH,
    "/v1/jobs/batches/{batch_id}/cancel": BATCH,
    "/v1/jobs/batches/{batch_id}/retry-failed": BATCH,
    "/v1/responses/{response_id}": RESPONSE,
    "/v1/responses/{response_id}/cancel": RESPONSE,
    "/v1/responses/{response_id}/input_items": RESPONSE,
    "/v1/webhook_endpoints/{endpoint_id}": ENDPOINT,
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret": ENDPOINT,
    "/v1/webhook_endpoints/{endpoint_id}/test": ENDPOINT,
}
"""For each path: how a key comes to own what the path's first parameter names, and an id like it that was
never given out. The other parameters are 0."""
EVERYBODYS = {"/v1/models/{name:path}", "/api/blobs/{digest}"}
"""Paths with a parameter that names nobody's own."""
FILTERS: dict[str, Make] = {
    "/v1/batches?after={id}": _file_batch,
    "/v1/files?after={id}": _file,
    "/v1/jobs?after={id}": _picture_job,
    "/v1/jobs?batch={id}": _batch,
    "/v1/webhook_endpoints?after={id}": _endpoint,
}
"""Queries that name something of somebody's."""
NAMED: dict[str, tuple[Make, str, Callable[[str], dict[str, str]]]] = {
    "/v1/batches": (*FILE, _of_file),
    "/v1/responses": (
        *RESPONSE,
        lambda name: {"model": "tiny-chat", "input": "and?", "previous_response_id": name},
    ),
}
"""Bodies that do: how one comes to own it, an id that never was, and the body."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Webhooks may go to this machine."""
    there = settings.webhooks.model_copy(update={"private_networks": (ip_network("127.0.0.0/8"),)})
    return settings.model_copy(update={"webhooks": there})


@pytest.fixture
def keys(settings: Settings, house: redis.Redis) -> tuple[dict[str, str], dict[str, str]]:
    """The headers of two keys that may do everything, in a house with a model of every kind."""
    publish(house, TINY, PICTURES, TEXTS)
    ring = Keyring(settings.data_dir)
    mine, theirs = (ring.add(name, Scope.ADMIN)[1] for name in ("owner", "other"))
    return {"Authorization": f"Bearer {mine}"}, {"Authorization": f"Bearer {theirs}"}


def test_every_path_with_an_id_is_known(settings: Settings) -> None:
    found = {path for _, path in routes_of(settings) if "{" in path}
    new = sorted(found - set(OWNED) - EVERYBODYS)
    assert not new, (
        f"{new}: add a row to OWNED in {__file__}, which says how a key comes to own such an id; then it is "
        "tested that another key is told the same as of an id that never was"
    )
    gone = (set(OWNED) | EVERYBODYS) - found
    assert not gone, f"{sorted(gone)}: there are no such paths any more"


@pytest.mark.parametrize("path", OWNED)
async def test_the_id_of_another_key_is_one_that_never_was(
    settings: Settings,
    worker: StandIn,
    keys: tuple[dict[str, str], dict[str, str]],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same status, headers and words, after as many questions to Redis: nothing tells that it exists."""
    make, never = OWNED[path]
    owner, other = keys
    _count_packets(monkeypatch)
    async with client_of(settings) as client:
        for method in sorted({method for method, each in routes_of(settings) if each == path}):
            client.headers.update(owner)
            real = await make(client)
            client.headers.update(other)
            answers = [await _asked(client, method, path, name) for name in (real, never) * 2]
            assert answers[0][0] == 404, answers[0]
            # The first question may find things in memory that the next ones do not ask for any more.
            assert answers[0][:-1] == answers[1][:-1]
            assert answers[2] == answers[3]
            client.headers.update(owner)
            opened = await client.request(method, _filled(path, real), json=_body(path))
            # Nobody listens where the trial of a webhook goes; it is tried.
            assert opened.status_code < 400 or opened.status_code == 502, f"{method} {path}: {opened.text}"


async def _asked(client: httpx.AsyncClient, method: str, path: str, name: str) -> tuple[object, ...]:
    """What one is told of an id, but for what differs by nature, and by how many packets to Redis."""
    sent: list[None] = []
    token = _SENT.set(sent)
    answer = await client.request(method, _filled(path, name), json=_body(path))
    _SENT.reset(token)
    return *_told(answer, name), len(sent)


def _body(path: str) -> dict[str, str]:
    """Routes that take none do not look at it."""
    return {"event_type": "job.succeeded"} if path.endswith("/test") else {}


_SENT: ContextVar[list[None] | None] = ContextVar("sent", default=None)


def _count_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a request itself: what else the application does has another context."""
    plain = connection._Cancellable.send_packed_command

    async def counted(self: connection._Cancellable, *args: object, **options: object) -> None:
        if (sent := _SENT.get()) is not None:
            sent.append(None)
        await plain(self, *args, **options)

    monkeypatch.setattr(connection._Cancellable, "send_packed_command", counted)


def _filled(path: str, name: str) -> str:
    before, _, rest = path.partition("{")
    return (before + name + rest.partition("}")[2]).replace("{number}", "0")


def _told(answer: httpx.Response, name: str) -> tuple[int, str, list[str]]:
    """What one is told, but for what differs by nature."""
    different = ("x-request-id", "openai-processing-ms")
    headers = [f"{key}: {value}" for key, value in answer.headers.items() if key not in different]
    return answer.status_code, answer.text.replace(name, "ID"), headers


@pytest.mark.parametrize("query", FILTERS)
async def test_a_filter_by_the_id_of_another_key_finds_nothing(
    settings: Settings, worker: StandIn, keys: tuple[dict[str, str], dict[str, str]], query: str
) -> None:
    owner, other = keys
    async with client_of(settings) as client:
        client.headers.update(owner)
        real = await FILTERS[query](client)
        client.headers.update(other)
        found = await client.get(query.format(id=real))
        assert found.status_code == 400 or found.json()["data"] == []
        assert SECRET not in found.text


@pytest.mark.parametrize("path", NAMED)
async def test_nobody_goes_on_from_what_belongs_to_another_key(
    settings: Settings, worker: StandIn, keys: tuple[dict[str, str], dict[str, str]], path: str
) -> None:
    make, never, body = NAMED[path]
    owner, other = keys
    async with client_of(settings) as client:
        client.headers.update(owner)
        real = await make(client)
        client.headers.update(other)
        real_told, never_told = [
            _told(await client.post(path, json=body(name)), name) for name in (real, never)
        ]
        assert real_told == never_told
        assert real_told[0] == 404
        client.headers.update(owner)
        assert (await client.post(path, json=body(real))).status_code == 200


async def test_no_list_shows_what_belongs_to_another_key(
    settings: Settings,
    store: redis.Redis,
    worker: StandIn,
    keys: tuple[dict[str, str], dict[str, str]],
) -> None:
    """Asks every route without an id in its path, while the other key has jobs that ended, run and wait."""
    owner, other = keys
    async with client_of(settings) as client:
        client.headers.update(owner)
        ids = {await make(client) for make in {make for make, _ in OWNED.values()}}
        worker.pause()
        waiting = await client.post("/v1/jobs", json=ask(SECRET, user=SECRET, metadata={"a": SECRET}))
        ids.add(waiting.json()["id"])
        drawn = {"prompt": SECRET, "force_task_id": "task(owners)", "steps": 4}
        drawing = asyncio.create_task(client.post("/sdapi/v1/txt2img", json=drawn))
        await asyncio.to_thread(until, lambda: store.zcard(READY) == 2)
        client.headers.update(other)
        for method, path in routes_of(settings):
            if method == "GET" and "{" not in path:
                answer = await asyncio.wait_for(client.get(path), 10)
                assert SECRET not in answer.text, path
                assert not [name for name in ids if name in answer.text], path
        told = await client.post("/internal/progress", json={"id_task": "task(owners)"})
        assert (told.json()["active"], told.json()["queued"]) == (False, False)
        for path in ("/sdapi/v1/interrupt", "/sdapi/v1/skip"):
            assert (await client.post(path)).status_code == 200
        worker.resume()
        assert len((await drawing).json()["images"]) == 1, "another key has stopped this"
        assert waiting.json()["state"] == "queued"


async def test_one_word_of_two_keys_makes_two_jobs(
    settings: Settings, house: redis.Redis, keys: tuple[dict[str, str], dict[str, str]]
) -> None:
    """An Idempotency-Key is a word of its own key."""
    async with client_of(settings) as client:
        made = [
            await client.post("/v1/jobs", json=ask(), headers={**key, "Idempotency-Key": "tea"})
            for key in keys
        ]
    assert [answer.status_code for answer in made] == [202, 202]
    assert made[0].json()["id"] != made[1].json()["id"]
