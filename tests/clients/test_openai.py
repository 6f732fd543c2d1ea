"""OpenAI's SDK beyond single answers: its helpers, its loop over tools, its headers, and how it tries again.

What one answer holds is looked at in ``tests/api/test_sdk.py`` and ``test_images_sdk.py``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tasks import keys
from tests.api.support import make, until
from tests.clients.conftest import MODEL, Home

USER = {"role": "user"}


@pytest.fixture
def sdk(home: Home) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{home.url}/v1", api_key="any", max_retries=0) as client:
        yield client


class Add(pydantic.BaseModel):
    """Add two numbers."""

    a: int
    b: int


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_the_loop_over_tools_ends_with_an_answer(home: Home, sdk: openai.OpenAI) -> None:
    """As its documentation has it: parsed calls, their results, until there is no call left."""
    turns: list[Any] = [{**USER, "content": make({"call": ["Add", '{"a": 1, "b": 2}']})}]
    tools: Any = [openai.pydantic_function_tool(Add)]
    for _ in range(3):
        answer = sdk.chat.completions.parse(model=MODEL, messages=turns, tools=tools)
        message = answer.choices[0].message
        turns.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            asked = call.function.parsed_arguments
            assert isinstance(asked, Add)
            turns.append({"role": "tool", "tool_call_id": call.id, "content": f"say {asked.a + asked.b}"})
    assert turns[-1].content == "3"
    assert [turn.role for turn in home.last_chat().messages] == ["user", "assistant", "tool"]


def test_the_streaming_helper_parses_as_it_goes(sdk: openai.OpenAI) -> None:
    said = {**USER, "content": 'say {"name": "Ada",| "age"|: 36}'}
    with sdk.chat.completions.stream(model=MODEL, messages=[said], response_format=Person) as stream:  # type: ignore[list-item]
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Person(name="Ada", age=36)
    assert kinds.count("content.done") == 1


async def test_the_async_helper(home: Home) -> None:
    async with openai.AsyncOpenAI(base_url=f"{home.url}/v1", api_key="any") as sdk:
        said: Any = [{**USER, "content": "slow 4"}]
        async with sdk.chat.completions.stream(model=MODEL, messages=said) as stream:
            told = [event.delta async for event in stream if event.type == "content.delta"]
        assert "".join(told) == "0 1 2 3 "


def test_headers_tell_the_job(home: Home, sdk: openai.OpenAI) -> None:
    said: Any = [{**USER, "content": "say x"}]
    raw = sdk.chat.completions.with_raw_response.create(model=MODEL, messages=said)
    assert raw.headers["x-job-id"] == home.worker.seen[-1]
    assert raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.parse().choices[0].message.content == "x"
    with sdk.chat.completions.with_streaming_response.create(
        model=MODEL, messages=said, stream=True
    ) as streamed:
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert list(streamed.iter_lines())[-2:] == ["data: [DONE]", ""]
        assert streamed.headers["x-job-id"] == home.worker.seen[-1]


def test_a_full_queue_is_429_and_the_sdk_waits_as_long_as_it_is_told(home: Home) -> None:
    home.worker.pause()
    try:
        with openai.OpenAI(base_url=f"{home.url}/v1", api_key="any", max_retries=0) as sdk:
            said: Any = [{**USER, "content": "say x"}]
            for _ in range(32):
                sdk.post("/jobs", body={"model": MODEL, "messages": said}, cast_to=object)
            with pytest.raises(openai.RateLimitError) as full:
                sdk.chat.completions.create(model=MODEL, messages=said)
            assert full.value.code == "queue_full"
            assert 1 <= int(full.value.response.headers["retry-after"]) <= 120
    finally:
        home.worker.resume()
    # The next time it tries until there is room.
    with openai.OpenAI(base_url=f"{home.url}/v1", api_key="any", max_retries=5) as patient:
        assert patient.chat.completions.create(model=MODEL, messages=said).choices[0].message.content == "x"
    until(lambda: home.store.zcard(keys.READY) == 0)


def test_a_picture_is_drawn_and_edited(sdk: openai.OpenAI) -> None:
    drawn = sdk.images.generate(prompt="a fox", n=2, size="64x64", response_format="b64_json")
    pictures = [base64.b64decode(each.b64_json or "") for each in drawn.data or ()]
    assert [picture[:4] for picture in pictures] == [b"\x89PNG"] * 2
    edited = sdk.images.edit(image=("fox.png", pictures[0]), prompt="a dog")
    assert len(edited.data or ()) == 1


def test_models_come_as_pages(sdk: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(MODEL).owned_by == "hearth"
