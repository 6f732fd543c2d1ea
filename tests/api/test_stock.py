"""Loading and unloading over HTTP; what the worker makes of it is tested there."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis

from tasks import board, keys
from tasks.jobs import ModelJob, decode
from tests.api.support import CARD


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_asking_for_it_is_a_job(client: httpx.AsyncClient, store: redis.Redis, action: str) -> None:
    response = await client.post(f"/v1/models/{action}", json={"model": "tiny"})
    assert response.status_code == 202
    job = response.json()
    assert (job["kind"], job["model"], job["state"]) == ("model", "tiny-chat", "queued")
    assert job["queue"] == "chat.tiny-chat"
    assert response.headers["location"] == job["urls"]["self"]
    raw: Any = store.hget(keys.job(job["id"]), "job")
    kept = decode(raw)
    assert isinstance(kept, ModelJob)
    assert kept.action == action
    assert (await client.get(job["urls"]["self"])).json()["kind"] == "model"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"model": "nobody"}, 404), ({"model": "broken"}, 400), ({}, 400), ({"model": 1}, 400)],
)
async def test_what_cannot_be_loaded_is_refused(
    client: httpx.AsyncClient, body: dict[str, object], status: int
) -> None:
    response = await client.post("/v1/models/load", json=body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == "model"


async def test_what_is_loaded_and_what_could_be(client: httpx.AsyncClient, store: redis.Redis) -> None:
    raw: Any = store.get(keys.residents(CARD))
    told = board.decode(board.Residents, raw)
    assert told is not None
    fresh = board.Residents(
        1, CARD, "", "", "", True, 0, told.models, load_ms={"tiny-chat": 1500.0}, pinned=("tiny-chat",)
    )
    store.set(keys.residents(CARD), board.encode(fresh))
    store.set(keys.heartbeat(CARD), board.encode(board.Heartbeat(0, 1, loading="pictures")))
    body = (await client.get("/v1/models/loaded")).json()
    (model,) = body["data"]
    assert (model["id"], model["card"], model["is_pinned"], model["load_s"]) == ("tiny-chat", CARD, True, 1.5)
    assert body["loading"] == ["pictures"]
    (other,) = (await client.get("/v1/models/available")).json()["data"]
    assert (other["id"], other["kind"], other["load_s"]) == ("pictures", "image", None)
