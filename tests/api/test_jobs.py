"""Jobs by id: submitted, listed, followed, cancelled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis

from api.jobs.schemas import JobList, JobOut
from config.settings import Settings
from tasks import keys
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask, chunks, make, until

FIELDS = {
    "id", "object", "kind", "model", "state", "hold", "queue", "position", "eta", "progress", "attempt",
    "created_at", "started_at", "ended_at", "timings", "usage", "output", "strikes", "error", "warnings",
    "metadata", "input", "batch", "retry_of", "custom_id", "retried_as", "urls", "webhooks",
}  # fmt: skip
WAIT = {"Prefer": "wait=10"}


def _events(stream: str) -> list[dict[str, Any]]:
    """The events of a native stream, with the fields around their data."""
    told = []
    for block in stream.split("\n\n"):
        lines = [line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(lines)
            told.append({**fields, "data": json.loads(fields["data"])})
    return told


async def _ended(client: httpx.AsyncClient, text: str = "say a|b", **fields: Any) -> dict[str, Any]:
    job: dict[str, Any] = (await client.post("/v1/jobs", json=ask(text, **fields), headers=WAIT)).json()
    return job


async def test_a_job_is_accepted_and_can_be_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json=ask(kind="chat", metadata={"for": "me"}))
    assert response.status_code == 202
    job = response.json()
    assert set(job) == FIELDS
    JobOut.model_validate(job)
    assert response.headers["location"] == job["urls"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["position"], job["queue"]) == ("queued", 1, "chat.tiny-chat")
    assert job["metadata"] == {"for": "me"}
    shown = (await client.get(job["urls"]["self"])).json()
    assert shown["id"] == job["id"]


async def test_an_ended_job_tells_what_it_made(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post("/v1/jobs", json=ask("say a|b"), headers=WAIT)
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=10"
    job = response.json()
    assert set(job) == FIELDS
    assert (job["state"], job["position"], job["attempt"]) == ("succeeded", None, 1)
    assert job["output"][0]["text"] == "ab"
    assert job["output"][0]["finish_reason"] == "stop"
    assert job["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "cached_tokens": 2,
        "reasoning_tokens": 0,
    }
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]


async def test_thoughts_and_calls_are_output_even_when_the_journal_is_gone(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    said = make({"think": "hm"}, {"say": "So:"}, {"call": ["add", '{"a": 1}']})
    tools = [{"type": "function", "function": {"name": "add"}}]
    job = await _ended(client, said, tools=tools)
    kinds = [event["event"] for event in _events((await client.get(job["urls"]["events"])).text)]
    assert kinds[2:] == ["reasoning_delta", "text_delta", "tool_call", "finished"]
    house.delete(keys.journal(job["id"]))
    job = (await client.get(job["urls"]["self"])).json()
    JobOut.model_validate(job)
    given = [{name: value for name, value in item.items() if value is not None} for item in job["output"]]
    assert given == [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "So:", "finish_reason": "tool_calls"},
        {
            "type": "tool_call",
            "id": "call_0",
            "name": "add",
            "arguments": '{"a": 1}',
            "finish_reason": "tool_calls",
        },
    ]
    assert job["usage"]["reasoning_tokens"] == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_asked_for_again_is_whole_when_its_journal_is_gone(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis, stream: bool
) -> None:
    body = ask(make({"think": "hm"}, {"say": "So:"}, {"call": ["add", "{}"]}), stream=stream)
    body["tools"] = [{"type": "function", "function": {"name": "add"}}]
    headers = {"Idempotency-Key": "once"}
    first = await client.post("/v1/chat/completions", json=body, headers=headers)
    house.delete(keys.journal(first.headers["x-job-id"]))
    again = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert again.headers["x-job-id"] == first.headers["x-job-id"]
    if not stream:
        assert again.json() == first.json()
        return
    told = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks(again.text)[:-1]]
    assert [next(iter(delta), None) for delta in told] == [
        "role",
        "reasoning_content",
        "content",
        "tool_calls",
        "tool_calls",
        None,
    ]


async def test_a_failed_job_tells_why(client: httpx.AsyncClient, worker: StandIn) -> None:
    job = await _ended(client, "too long")
    assert job["state"] == "failed"
    assert job["error"]["code"] == "context_length_exceeded"
    assert job["output"] == []


async def test_waiting_has_an_end(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json=ask(), headers={"Prefer": "respond-async, wait=1"})
    assert response.status_code == 202
    assert response.json()["state"] == "queued"


@pytest.mark.parametrize("prefer", ["wait", "wait=-1", "wait=soon", "wait=0", "handling=lenient", ""])
async def test_a_preference_that_makes_no_sense_is_none(client: httpx.AsyncClient, prefer: str) -> None:
    response = await client.post("/v1/jobs", json=ask(), headers={"Prefer": prefer})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_the_class_and_the_deadline_are_the_clients(client: httpx.AsyncClient, astore: Any) -> None:
    job = (await client.post("/v1/jobs", json={**ask(), "class": "batch", "deadline_s": 60})).json()
    assert job["queue"] == "batch.tiny-chat"
    deadline_ms = float(await astore.hget(keys.job(job["id"]), "deadline_at"))
    assert abs(deadline_ms / 1000 - job["created_at"] - 60) < 0.01


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"kind": "song"}, "kind"),
        ({"kind": ["chat"]}, "kind"),
        ({"class": "image"}, "class"),
        ({"class": 1}, "class"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": -5}, "deadline_s"),
        ({"deadline_s": 1e300}, "deadline_s"),
        ({"deadline_s": "1h"}, "deadline_s"),
        ({"n": 9}, "n"),
    ],
)
async def test_a_field_at_fault_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post("/v1/jobs", json={**ask(), **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_a_list_is_taken_whole(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post("/v1/jobs", json=[ask(f"say {n}") for n in range(5)], headers=WAIT)
    assert response.status_code == 200
    listed = response.json()
    JobList.model_validate(listed)
    assert [job["output"][0]["text"] for job in listed["data"]] == list("01234")
    again = (await client.get(response.headers["location"])).json()
    assert [job["id"] for job in again["data"]] == [job["id"] for job in reversed(listed["data"])]


async def test_a_list_with_one_fault_is_refused_whole(client: httpx.AsyncClient, house: redis.Redis) -> None:
    for broken, param in (
        (ask(temperature=9), "[1].temperature"),
        (ask(model="no"), "[1].model"),
        (5, "[1]"),
    ):
        response = await client.post("/v1/jobs", json=[ask(), broken])
        assert response.json()["error"]["param"] == param
    assert (await client.post("/v1/jobs", json=[])).status_code == 400
    assert (await client.post("/v1/jobs", json=[{}] * 1001)).status_code == 400
    assert house.zcard(keys.JOBS) == 0


async def test_a_list_beyond_the_cap_is_refused_whole(settings: Settings, house: redis.Redis) -> None:
    small = settings.model_copy(update={"queue": settings.queue.model_copy(update={"batch_cap": 2})})
    async with client_of(small) as client:
        response = await client.post("/v1/jobs", json=[{**ask(), "class": "batch"}] * 3)
        assert response.status_code == 429
    assert house.zcard(keys.JOBS) == 0


async def test_the_same_key_gives_the_same_jobs(client: httpx.AsyncClient, house: redis.Redis) -> None:
    headers = {"Idempotency-Key": "abc"}
    for body in (ask(), [ask("1"), ask("2")]):
        first = await client.post("/v1/jobs", json=body, headers=headers)
        again = await client.post("/v1/jobs", json=body, headers=headers)
        assert again.status_code == 202
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        other = await client.post("/v1/jobs", json=ask("other"), headers=headers)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "idempotency_conflict"
        assert other.headers["x-should-retry"] == "false"
        headers = {"Idempotency-Key": "def"}
    assert house.zcard(keys.JOBS) == 3


async def test_jobs_are_listed_newest_first_in_pages(client: httpx.AsyncClient) -> None:
    ids = [(await client.post("/v1/jobs", json=ask(str(n)))).json()["id"] for n in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = (await client.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == ids[::-1]


async def test_jobs_can_be_picked(client: httpx.AsyncClient, worker: StandIn) -> None:
    done = (await _ended(client))["id"]
    failed = (await _ended(client, "too long"))["id"]
    for query, expected in (
        ({"state": "succeeded"}, [done]),
        ({"state": "failed"}, [failed]),
        ({"state": "queued"}, []),
        ({"kind": "image"}, []),
        ({"kind": "chat", "model": "tiny-chat"}, [failed, done]),
        ({"model": "other"}, []),
        ({"batch": "none"}, []),
    ):
        page = (await client.get("/v1/jobs", params=query)).json()
        assert [job["id"] for job in page["data"]] == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"state": "lost"}, "state"),
        ({"kind": "song"}, "kind"),
        ({"after": "job_" + "0" * 40}, "after"),
        ({"after": "\x00"}, "after"),
    ],
)
async def test_a_query_at_fault_is_named(
    client: httpx.AsyncClient, query: dict[str, Any], param: str
) -> None:
    response = await client.get("/v1/jobs", params=query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("job_id", ["job_" + "0" * 40, "x", "job_%00", "..", "hearth:counts", "\u2028"])
async def test_a_job_that_is_not_there_is_404(client: httpx.AsyncClient, job_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        response = await client.request(method, f"/v1/jobs/{job_id}{path}")
        assert response.status_code == 404


async def test_a_waiting_job_is_cancelled_at_once(client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json=ask())).json()
    for _ in range(2):
        response = await client.post(job["urls"]["cancel"])
        assert response.status_code == 200
        assert response.json()["state"] == "cancelled"


async def test_a_running_job_is_cancelled_at_its_next_step(
    client: httpx.AsyncClient, worker: StandIn
) -> None:
    job = (await client.post("/v1/jobs", json=ask("wait"))).json()
    stream = asyncio.create_task(client.get(job["urls"]["events"]))
    await asyncio.to_thread(until, lambda: worker.seen)
    assert (await client.post(job["urls"]["cancel"])).json()["state"] in ("running", "cancelled")
    last = _events((await stream).text)[-1]
    assert (last["event"], last["data"]["reason"]) == ("cancelled", "requested")
    assert (await client.get(job["urls"]["self"])).json()["state"] == "cancelled"


async def test_an_ended_job_stays_as_it_is(client: httpx.AsyncClient, worker: StandIn) -> None:
    job = await _ended(client)
    assert (await client.post(job["urls"]["cancel"])).json()["state"] == "succeeded"


async def test_the_events_are_the_journal(client: httpx.AsyncClient, worker: StandIn) -> None:
    job = (await client.post("/v1/jobs", json=ask("slow 5\u2028"[:6]))).json()
    response = await client.get(job["urls"]["events"])
    assert response.headers["content-type"].startswith("text/event-stream")
    told = _events(response.text)
    assert [event["event"] for event in told[:2]] == ["queued", "started"]
    assert told[-1]["event"] == "finished"
    assert all(event["event"] == event["data"]["type"] for event in told)
    text = "".join(event["data"].get("text", "") for event in told)
    tokens = [token for event in told for token in event["data"].get("token_ids", [])]
    assert (text, tokens) == ("0 1 2 3 4 ", [1, 2, 3, 4, 5])


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_stream_goes_on_where_it_was(
    client: httpx.AsyncClient, worker: StandIn, by_header: bool
) -> None:
    job = await _ended(client, "slow 5")
    whole = _events((await client.get(job["urls"]["events"])).text)
    for index, event in enumerate(whole[:-1]):
        headers = {"Last-Event-ID": event["id"]} if by_header else {}
        query = {"after": whole[-1]["id"] if by_header else event["id"]}
        rest = await client.get(job["urls"]["events"], headers=headers, params=query)
        assert _events(rest.text) == whole[index + 1 :]
    nothing_left = await client.get(job["urls"]["events"], params={"after": whole[-1]["id"]})
    assert nothing_left.status_code == 204


@pytest.mark.parametrize("place", ["5", "a-b", "1-", "-1-0", "9" * 40 + "-0", "$"])
async def test_a_place_that_is_none_is_refused(client: httpx.AsyncClient, place: str) -> None:
    job = (await client.post("/v1/jobs", json=ask())).json()
    response = await client.get(job["urls"]["events"], params={"after": place})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "after"
    response = await client.get(job["urls"]["events"], headers={"Last-Event-ID": place})
    assert response.json()["error"]["param"] == "Last-Event-ID"


async def test_of_a_journal_that_is_gone_the_end_is_left(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    job = await _ended(client)
    house.delete(keys.journal(job["id"]))
    (only,) = _events((await client.get(job["urls"]["events"])).text)
    assert only["event"] == "finished"
    assert only["data"]["usage"]["completion_tokens"] == 2
