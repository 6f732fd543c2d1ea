"""The endpoints of batches: a line's answer is the live one's, made of records alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis

from api.context import Context
from api.errors import Refusal
from api.openai.endpoints import ENDPOINTS, Asked, Ended
from api.request_id import problem_of
from api.terms import Terms
from config.settings import Settings
from tasks import keys, records
from tasks.errors import JobError
from tasks.jobs import ChatJob, ImageJob, JobClass, JobId
from tasks.records import JobRecord
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask, make

TEXT = "/v1/completions"
CHAT, IMAGES, RESPONSES = "/v1/chat/completions", "/v1/images/generations", "/v1/responses"
HI = {"model": "tiny-chat", "input": "hi"}
TERMS = Terms("anonymous", JobClass.BATCH, batch="batch_" + "0" * 40, custom_id="row 1")


async def asked(shared: Context, body: dict[str, Any]) -> Asked:
    return Asked(body, TERMS, await shared.board.catalog(), shared)


async def kept(shared: Context, response: httpx.Response) -> list[JobRecord]:
    """The records behind a live answer, whose journals have gone."""
    ids = response.headers.get("x-job-ids", response.headers["x-job-id"]).split(",")
    await shared.redis.delete(*map(keys.journal, ids))
    found = await records.fetch_many(shared.redis, [JobId(each) for each in ids])
    return [each for each in found if isinstance(each, JobRecord)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, ask("say Hel|lo")),
        (CHAT, ask("say Hel|lo", n=3)),
        (CHAT, ask(make({"think": "hm"}, {"say": "there"}, {"call": ["look", "{}"]}), max_tokens=9)),
        (
            RESPONSES,
            {
                **HI,
                "input": make({"think": "hm"}, {"say": "there"}, {"call": ["look", "{}"]}),
                "store": False,
            },
        ),
        (TEXT, {"model": "tiny-chat", "prompt": ["say Hel|lo", "say you"], "n": 2, "echo": True}),
        (IMAGES, {"prompt": "a", "size": "64x96", "seed": 5, "n": 2, "quality": "low"}),
        (IMAGES, {"prompt": "a", "response_format": "url", "output_format": "webp"}),
    ],
)
async def test_an_answer_is_the_live_one(
    settings: Settings, worker: StandIn, path: str, body: dict[str, Any]
) -> None:
    house = client_of(settings)
    async with house as client:
        live = await client.post(path, json=body)
        shared: Context = house.app.state.context
        told = await ENDPOINTS[path].tell(Ended(body, await kept(shared, live), "http://localhost", shared))
    assert live.status_code == 200
    assert told == live.json()


async def test_a_body_becomes_jobs_of_the_batch(settings: Settings, house: redis.Redis) -> None:
    one = client_of(settings)
    async with one:
        shared: Context = one.app.state.context
        [chat] = await ENDPOINTS[CHAT].read(await asked(shared, ask("hi", temperature=0.5)))
        [answer] = await ENDPOINTS[RESPONSES].read(await asked(shared, HI))
        drawn = await ENDPOINTS[IMAGES].read(await asked(shared, {"prompt": "a", "n": 3, "seed": 7}))
    assert isinstance(chat, ChatJob)
    assert chat.sampling.temperature == 0.5
    assert [job.seed for job in drawn if isinstance(job, ImageJob)] == [7, 8, 9]
    assert isinstance(answer, ChatJob)
    assert answer.response is not None
    for job in (chat, answer, *drawn):
        about = job.submission
        assert (about.batch, about.custom_id, about.job_class) == (TERMS.batch, "row 1", JobClass.BATCH)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, ask("hi", temperature=9), "temperature"),
        (CHAT, ask("hi", logprobs=True), "logprobs"),
        (TEXT, {"model": "tiny-chat", "prompt": "a", "logprobs": 1}, "logprobs"),
        (TEXT, {"model": "tiny-chat", "prompt": ["a", 1]}, "prompt[1]"),
        (CHAT, {**ask("hi"), "model": "nobody"}, "model"),
        (RESPONSES, {**HI, "input": [{"role": "user", "content": 3}]}, "input[0].content"),
        (RESPONSES, {**HI, "include": ["message.output_text.logprobs"]}, "include"),
        (RESPONSES, {**HI, "background": True}, "background"),
        (IMAGES, {"prompt": "a", "size": "1x1x1"}, "size"),
        (IMAGES, {"prompt": "a", "model": "tiny-chat"}, "model"),
    ],
)
async def test_faults_are_told_as_the_live_endpoint_tells_them(
    settings: Settings, house: redis.Redis, path: str, body: dict[str, Any], param: str
) -> None:
    one = client_of(settings)
    async with one:
        shared: Context = one.app.state.context
        with pytest.raises((Refusal, JobError)) as refused:
            await ENDPOINTS[path].read(await asked(shared, body))
    problem = problem_of(refused.value, "")
    assert problem.param == param


async def test_an_answer_is_not_made_of_what_failed(settings: Settings, worker: StandIn) -> None:
    house = client_of(settings)
    async with house as client:
        live = await client.post(CHAT, json=ask("lost"))
        shared: Context = house.app.state.context
        found = await kept(shared, live)
        with pytest.raises(ValueError, match="bug"):
            await ENDPOINTS[CHAT].tell(Ended(ask("lost"), found, "http://localhost", shared))
