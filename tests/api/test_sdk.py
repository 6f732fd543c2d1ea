"""The official SDK against the real server, unchanged."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import redis
from pydantic import SecretStr

from config.settings import Settings
from tasks import keys
from tests.api.conftest import Served, client_of
from tests.api.support import StandIn, publish, until


@pytest.fixture
def sdk(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        yield client


USER = {"role": "user"}


def test_a_whole_answer(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "say Hearth| is warm"}]
    )
    assert answer.choices[0].message.content == "Hearth is warm"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert answer._request_id is not None


def test_a_stream(sdk: openai.OpenAI, worker: StandIn) -> None:
    stream = sdk.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "slow 5"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "0 1 2 3 4 "
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_the_streaming_helper(sdk: openai.OpenAI, worker: StandIn) -> None:
    with sdk.chat.completions.stream(
        model="tiny-chat", messages=[{"role": "user", "content": "slow 5"}]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == "0 1 2 3 4 "


def test_comments_while_waiting_do_not_disturb_it(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    worker.paused = True
    for _ in range(2):
        httpx.post(str(sdk.base_url) + "jobs", json={"model": "tiny", "messages": [{**USER, "content": "x"}]})

    def release() -> None:
        time.sleep(1.5)
        worker.paused = False

    threading.Thread(target=release).start()
    stream = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "load"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "load"


async def test_the_async_client(served: Served, worker: StandIn) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as sdk:
        asked = [
            sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": f"say {n}"}])
            for n in range(8)
        ]
        answers = await asyncio.gather(*asked)
    assert [answer.choices[0].message.content for answer in answers] == [str(n) for n in range(8)]


def test_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["tiny-chat", "pictures"]
    assert sdk.models.retrieve("tiny").id == "tiny-chat"
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.models.retrieve("none")
    assert missing.value.code == "model_not_found"


def test_errors_have_their_classes(sdk: openai.OpenAI, worker: StandIn) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        )
    assert (bad.value.code, bad.value.param) == ("unsupported_value", "messages[0].content[0]")
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError) as long:
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "too long"}])
    assert long.value.code == "context_length_exceeded"


def test_an_error_within_a_stream_is_raised(sdk: openai.OpenAI, worker: StandIn) -> None:
    stream = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "too long"}], stream=True
    )
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert raised.value.code == "context_length_exceeded"
    assert raised.value.param == "messages"


def test_a_stream_that_is_closed_lets_its_job_go(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    stream = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "wait"}], stream=True
    )
    next(iter(stream))
    stream.close()
    until(lambda: worker.seen and not house.exists(keys.reader(worker.seen[0])), 3)


def test_while_starting_the_sdk_waits_and_tries_again(
    served: Served, house: redis.Redis, worker: StandIn
) -> None:
    house.delete(keys.CATALOG)
    threading.Timer(1.0, publish, [house]).start()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=2) as sdk:
        answer = sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "say x"}])
    assert answer.choices[0].message.content == "x"


def test_a_lost_job_is_not_asked_again(served: Served, worker: StandIn) -> None:
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=2) as sdk,
        pytest.raises(openai.InternalServerError) as lost,
    ):
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "lost"}])
    assert lost.value.code == "worker_lost"
    assert len(worker.seen) == 1


async def test_the_key_is_asked_for(settings: Settings, house: redis.Redis) -> None:
    locked = settings.model_copy(update={"api_key": SecretStr("right")})
    async with client_of(locked) as client:
        http: Any = client  # the SDK has another httpx in mind, and asks nothing of it that this one lacks
        sdk = openai.AsyncOpenAI(base_url="http://hearth/v1", api_key="wrong", http_client=http)
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()
        listed = await sdk.with_options(api_key="right").models.list()
        assert listed.data
