"""Pausing and resuming over HTTP, and where a pause shows."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import Served
from tests.api.support import ask


async def test_a_pause_shows_in_the_queue_and_in_readiness(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/queue/pause", json={"message": "dusting"})).json()
    (pause,) = body["pauses"]
    assert (pause["class"], pause["model"], pause["message"]) == (None, None, "dusting")
    ready = await client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["why"] == ["queue: dusting"]
    assert (await client.post("/v1/queue/resume", json={})).json()["pauses"] == []
    assert (await client.get("/ready")).status_code == 200


async def test_a_house_with_one_open_queue_is_ready(client: httpx.AsyncClient) -> None:
    await client.post("/v1/queue/pause", json={"class": "image"})
    assert (await client.get("/ready")).status_code == 200
    await client.post("/v1/queue/pause", json={"model": "tiny"})  # an alias
    (held, _) = (await client.get("/v1/queue")).json()["pauses"]
    assert held["model"] == "tiny-chat"
    assert (await client.get("/ready")).status_code == 503


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"class": "urgent"}, 400, "class"),
        ({"queue": "chat.tiny-chat"}, 400, "queue"),
        ({"model": "nobody"}, 404, "model"),
        ({"rest_running": "yes"}, 400, "rest_running"),
        ([], 400, None),
    ],
)
async def test_a_pause_of_nothing_we_know_is_refused(
    client: httpx.AsyncClient, body: object, status: int, param: str | None
) -> None:
    response = await client.post("/v1/queue/pause", json=body)
    assert response.status_code == status
    assert param is None or response.json()["error"]["param"] == param
    assert (await client.get("/v1/queue")).json()["pauses"] == []


def test_a_stream_that_waits_hears_of_the_pause(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        client.post("/v1/queue/pause", json={"message": "dusting"})
        with client.stream("POST", "/v1/chat/completions", json=ask("say hello", stream=True)) as stream:
            line = next(line for line in stream.iter_lines() if "held" in line)
        assert line == ": held reason=operator dusting"
        client.post("/v1/queue/resume", json={})


async def test_a_waiting_job_tells_when_it_will_begin_and_end(client: httpx.AsyncClient) -> None:
    for number in (1, 2):
        job = (await client.post("/v1/jobs", json=ask())).json()
        assert job["position"] == number
        eta = job["eta"]
        assert eta["ends_at"] - eta["starts_at"] == pytest.approx(10.0, abs=0.01)  # a guess: nothing has run
        assert eta["basis"] == "guessed"
        assert eta["starts_at"] - job["created_at"] == pytest.approx(10.0 * (number - 1), abs=5.0)
    assert (await client.get("/v1/queue")).json()["eta_error"] == {"median": None, "jobs": 0}
    await client.post("/v1/queue/pause", json={})
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["eta"] is None
