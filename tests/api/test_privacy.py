"""Prompts, bodies and keys stay out of the log: in normal work, at a refusal, and when a request crashes."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import httpx
import pytest
import redis

from api import __main__ as process
from api.openai import chat
from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks import keys
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask

SECRET = "what-nobody-else-may-read"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes at its usual level: its own logging, as ``python -m api`` sets it up."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    process._log_to_stderr("info")
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", True)  # the test's own client
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(io.StringIO())
    yield handler.stream
    root.handlers[:] = before
    root.setLevel(level)


async def _crash(*_: object, **__: object) -> None:
    raise ValueError(f"cannot make sense of {SECRET}")


async def test_no_word_of_a_request_is_logged(
    settings: Settings,
    worker: StandIn,
    store: redis.Redis,
    told: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, key = Keyring(settings.data_dir).add("laptop", Scope.INFER)
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": SECRET}
    async with client_of(settings) as client:
        client.headers.update(headers)
        await _work(client)
        await _be_refused(client)
        made = (await client.post("/v1/jobs", json=ask(SECRET), headers={"Idempotency-Key": "other"})).json()
        store.hset(keys.job(made["id"]), "job", f'{{"kind": "chat", "messages": "{SECRET}"}}')
        assert (await client.get(f"/v1/jobs/{made['id']}")).status_code == 500
        assert made["id"] in (await client.get("/v1/jobs")).json()["unreadable"]
        monkeypatch.setattr(chat, "read_json", _crash)
        crashed = await client.post("/v1/chat/completions", json=ask(SECRET))
        assert crashed.json()["error"]["code"] == "internal_error"
    text = told.getvalue()
    assert crashed.headers["x-request-id"] in text, "the crash is to be found by its id"
    assert "in _crash" in text
    assert made["id"] in text
    assert SECRET not in text
    assert key not in text
    assert key[-8:] not in text


async def _work(client: httpx.AsyncClient) -> None:
    for path, body in (
        ("/v1/chat/completions", ask(f"say {SECRET}")),
        ("/v1/chat/completions", ask(f"say {SECRET}", stream=True)),
        ("/api/generate", {"model": "tiny-chat", "prompt": SECRET}),
        ("/v1/images/generations", {"prompt": SECRET}),
        ("/sdapi/v1/txt2img", {"prompt": SECRET}),
    ):
        answer = await client.post(
            path, json=body, headers={"Idempotency-Key": f"{SECRET}{len(body)}{path[-9:]}"}
        )
        assert answer.status_code == 200, answer.text


async def _be_refused(client: httpx.AsyncClient) -> None:
    refused = [
        await client.post("/v1/chat/completions", json={"model": SECRET, "messages": []}),
        await client.post("/v1/chat/completions", json=ask(temperature=SECRET)),
        await client.post("/v1/chat/completions", content=SECRET),
        await client.post("/v1/chat/completions", content=b"{" + SECRET.encode(), headers=JSON),
        await client.post("/v1/chat/completions", json=ask("too long"), headers={"Idempotency-Key": "long"}),
        await client.get(f"/v1/jobs/{SECRET}"),
        await client.get("/v1/jobs", headers={"Authorization": f"Bearer {SECRET}"}),
        await client.get("/v1/jobs", headers={"Host": f"{SECRET}.example"}),
        await client.post("/v1/queue/pause", json={"class": SECRET}),
    ]
    assert [answer.status_code // 100 for answer in refused] == [4] * len(refused)
    await asyncio.sleep(0)


JSON = {"Content-Type": "application/json"}
