"""Several answers to one request: ``n`` of a chat completion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from api.openai.choices import choices, seed_of
from api.openai.schemas import ChatCompletion
from config.groups import LimitSettings
from config.settings import Settings
from tasks import jobs, keys
from tasks.jobs import ChatJob, JobClass, JobId, Message, Sampling, Submission
from tests.api.conftest import Served, client_of
from tests.api.support import StandIn, ask, chunks, make, until

CHAT = "/v1/chat/completions"
SEEDS = st.integers(-(2**63), 2**63 - 1)


def _job(seed: int) -> ChatJob:
    about = Submission(jobs.new_job_id(), "anonymous", JobClass.CHAT, 0)
    return ChatJob(about, "tiny-chat", (Message("user", "x"),), Sampling(seed=seed))


@given(SEEDS, st.integers(2, 8))
def test_the_first_choice_is_the_answer_that_would_come_alone(seed: int, count: int) -> None:
    job = _job(seed)
    made = choices(job, count, LimitSettings())
    assert len({each.submission.id for each in made}) == len({each.sampling.seed for each in made}) == count
    assert {each.submission.batch for each in made} != {None}
    assert len({each.submission.batch for each in made}) == 1
    assert (made[0].submission.id, made[0].sampling) == (job.submission.id, job.sampling)
    assert [each.sampling.seed for each in made] == [seed_of(seed, index) for index in range(count)]
    assert all(-(2**63) <= each.sampling.seed < 2**63 for each in made)
    assert choices(job, 1, LimitSettings()) == [job]


def _ids(house: redis.Redis) -> list[JobId]:
    found: Any = house.zrange(keys.JOBS, 0, -1)
    return [JobId(raw.decode()) for raw in found]


def _jobs(house: redis.Redis) -> list[ChatJob]:
    told = [jobs.decode(house.hget(keys.job(job_id), "job") or b"") for job_id in _ids(house)]
    return [job for job in told if isinstance(job, ChatJob)]


def _states(house: redis.Redis) -> set[Any]:
    return {house.hget(keys.job(job_id), "state") for job_id in _ids(house)}


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


async def test_a_body_has_as_many_choices(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    pieces = make({"say": "Well. "}, {"call": ["add", '{"a": 1}']})
    response = await client.post(
        CHAT, json=ask(pieces, n=3, seed=7, tools=tools, logprobs=True, top_logprobs=1)
    )
    body = response.json()
    ChatCompletion.model_validate(body)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    for choice in body["choices"]:
        assert choice["message"]["content"] == "Well. "
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
        assert choice["finish_reason"] == "tool_calls"
        assert len(choice["logprobs"]["content"]) == 1
    prompt = len(pieces)  # the stand-in counts characters
    assert body["usage"]["prompt_tokens"] == prompt
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == prompt + 6
    made = _jobs(house)
    assert response.headers["x-job-id"] == made[0].submission.id
    assert response.headers["x-job-ids"] == ",".join(job.submission.id for job in made)
    assert [job.sampling.seed for job in made] == [seed_of(7, index) for index in range(3)]
    assert response.headers["x-hearth-warnings"] == "the end is near"


async def test_a_stream_tells_all_choices_by_their_index(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(
        CHAT, json=ask("slow 4", n=3, stream=True, stream_options={"include_usage": True})
    )
    *data, done = chunks(response.text)
    assert done == "[DONE]"
    assert response.text.count("[DONE]") == 1
    assert "\nid: " not in response.text
    *told, usage = [json.loads(chunk) for chunk in data]
    by_choice: dict[int, list[Any]] = {}
    for chunk in told:
        (choice,) = chunk["choices"]
        by_choice.setdefault(choice["index"], []).append(choice)
    assert sorted(by_choice) == [0, 1, 2]
    for first, *text, last in by_choice.values():
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"]["content"] for each in text) == "0 1 2 3 "
        assert last["delta"] == {}
        assert last["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12
    assert usage["usage"]["prompt_tokens"] == len("slow 4")
    assert len({(chunk["id"], chunk["created"]) for chunk in told}) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_the_whole_fails_with_one_of_them(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis, stream: bool
) -> None:
    """Whatever the others are about: they are cancelled, and not left to work for nobody."""
    worker.pause()
    asking = asyncio.create_task(client.post(CHAT, json=ask("wait", n=3, stream=stream)))
    await _until(lambda: house.zcard(keys.JOBS) == 3)
    await client.post(f"/v1/jobs/{_ids(house)[1]}/cancel")
    response = await asking
    told = json.loads(chunks(response.text)[0]) if stream else response.json()
    assert told["error"]["code"] == "job_cancelled"
    assert response.status_code == (200 if stream else 409)
    assert (stream, response.headers.get("x-should-retry")) in ((True, None), (False, "false"))
    assert _states(house) == {b"cancelled"}


async def test_they_are_accepted_all_or_none(settings: Settings, house: redis.Redis) -> None:
    narrow = settings.model_copy(update={"queue": settings.queue.model_copy(update={"chat_cap": 2})})
    async with client_of(narrow) as client:
        response = await client.post(CHAT, json=ask("x", n=3))
    assert response.status_code == 429
    assert house.zcard(keys.JOBS) == 0


async def test_a_key_leads_to_all_of_them(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    once = {"Idempotency-Key": "three"}
    first = await client.post(CHAT, json=ask("say a", n=3), headers=once)
    again = await client.post(CHAT, json=ask("say a", n=3), headers=once)
    assert first.json() == again.json()
    assert first.headers["x-job-ids"] == again.headers["x-job-ids"]
    assert house.zcard(keys.JOBS) == 3


async def test_a_client_that_leaves_cancels_all_of_them(
    served: Served, worker: StandIn, house: redis.Redis
) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        asking = asyncio.create_task(client.post(CHAT, json=ask("wait", n=3)))
        await _until(lambda: house.zcard(keys.LEASES) == 3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await _until(lambda: _states(house) == {b"cancelled"})


async def test_a_native_job_with_choices_is_a_set(client: httpx.AsyncClient, house: redis.Redis) -> None:
    response = await client.post("/v1/jobs", json=ask("say a", n=2, seed=1))
    assert response.status_code == 202
    assert response.json()["batch"].startswith("batch_")
    assert [job.sampling.seed for job in _jobs(house)] == [1, seed_of(1, 1)]


def test_the_sdk_reads_them(served: Served, worker: StandIn) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        question: Any = [{"role": "user", "content": "slow 3"}]
        whole = sdk.chat.completions.create(model="tiny-chat", messages=question, n=2)
        assert [choice.message.content for choice in whole.choices] == ["0 1 2 ", "0 1 2 "]
        with sdk.chat.completions.stream(model="tiny-chat", messages=question, n=2) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        assert [choice.message.content for choice in final.choices] == ["0 1 2 ", "0 1 2 "]
