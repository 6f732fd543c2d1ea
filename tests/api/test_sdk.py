"""The official SDK against the real server, unchanged."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
import redis
from pydantic import SecretStr

from config.settings import Settings
from tasks import jobs, keys
from tests.api.conftest import Served, client_of
from tests.api.support import StandIn, make, publish, until


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


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_a_parsed_answer_is_bound_to_its_schema(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    answer = sdk.chat.completions.parse(
        model="tiny-chat",
        messages=[{"role": "user", "content": 'say {"name": "Ada", |"age": 36}'}],
        response_format=Person,
    )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    job = jobs.decode(house.hget(keys.job(worker.seen[0]), "job") or b"")
    assert isinstance(job, jobs.ChatJob)
    assert job.json_schema is not None
    assert json.loads(job.json_schema)["required"] == ["name", "age"]


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
    worker.pause()
    for _ in range(2):
        httpx.post(str(sdk.base_url) + "jobs", json={"model": "tiny", "messages": [{**USER, "content": "x"}]})

    def release() -> None:
        time.sleep(1.5)
        worker.resume()

    threading.Thread(target=release).start()
    stream = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "load"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "load"


ADD: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALLING = make(
    {"think": "I"},
    {"think": " add"},
    {"say": "Well. "},
    {"call": ["add", '{"a": 1}']},
    {"call": ["add", '{"a": "é\\u2028"}']},
)


def test_calls_of_tools(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": CALLING}], tools=[ADD]
    )
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Well. ")
    assert choice.message.tool_calls is not None
    calls = [call for call in choice.message.tool_calls if call.type == "function"]
    assert [call.id for call in calls] == ["call_0", "call_1"]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("add", {"a": 1}),
        ("add", {"a": "é\u2028"}),
    ]
    assert choice.message.model_extra == {"reasoning_content": "I add"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 5
    # The turn as the SDK gives it goes back with its results.
    again = sdk.chat.completions.create(
        model="tiny-chat",
        messages=[
            {"role": "user", "content": "1+1?"},
            choice.message.model_dump(exclude_none=True),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": "call_0", "content": "2"},
            {"role": "tool", "tool_call_id": "call_1", "content": "say thanks"},
        ],
        tools=[ADD],
    )
    assert again.choices[0].message.content == "thanks"
    assert again.choices[0].message.tool_calls is None


def test_a_call_alone_has_no_content(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": make({"call": ["add", "{}"]})}],
        tools=[ADD],
        tool_choice={"type": "function", "function": {"name": "add"}},
        parallel_tool_calls=False,
    )
    assert answer.choices[0].message.content is None


def test_calls_and_thoughts_in_a_stream(sdk: openai.OpenAI, worker: StandIn) -> None:
    with sdk.chat.completions.stream(
        model="tiny-chat", messages=[{"role": "user", "content": CALLING}], tools=[ADD]
    ) as stream:
        deltas = [
            event.chunk.choices[0].delta for event in stream if event.type == "chunk" and event.chunk.choices
        ]
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.content == "Well. "
    assert [call.function.arguments for call in final.message.tool_calls or []] == [
        '{"a": 1}',
        '{"a": "é\\u2028"}',
    ]
    thoughts = [(delta.model_extra or {}).get("reasoning_content") for delta in deltas]
    assert "".join(thought for thought in thoughts if thought) == "I add"
    parts = [call for delta in deltas for call in delta.tool_calls or []]
    assert [(part.index, part.id, part.type) for part in parts] == [
        (0, "call_0", "function"),
        (0, None, None),
        (1, "call_1", "function"),
        (1, None, None),
    ]
    assert [part.function.arguments for part in parts if part.id and part.function] == ["", ""]


@pytest.mark.parametrize("top", [0, 2])
def test_probabilities(sdk: openai.OpenAI, worker: StandIn, top: int) -> None:
    messages: Any = [{"role": "user", "content": make({"think": "x"}, {"say": "a"}, {"say": "é"})}]
    asked: dict[str, Any] = {
        "model": "tiny-chat",
        "messages": messages,
        "logprobs": True,
        "top_logprobs": top,
    }
    whole = sdk.chat.completions.create(**asked).choices[0].logprobs
    assert whole is not None
    assert whole.content is not None
    assert [(token.token, token.bytes, token.logprob) for token in whole.content] == [
        ("a", [97], -0.5),
        ("é", [195, 169], -0.5),
    ]
    assert [[other.logprob for other in token.top_logprobs] for token in whole.content] == [
        [-2.0, -3.0][:top]
    ] * 2
    streamed = [
        token
        for chunk in sdk.chat.completions.create(**asked, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == whole.content


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
    later = threading.Timer(1.0, publish, [house])
    later.start()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=2) as sdk:
        answer = sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "say x"}])
    later.join()  # or it would publish into the next test
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
        sdk = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="wrong", http_client=http)
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()
        listed = await sdk.with_options(api_key="right").models.list()
        assert listed.data
