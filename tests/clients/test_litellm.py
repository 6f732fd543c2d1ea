"""litellm, which many gateways and agents are built on, pointed at us in both dialects."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pydantic
import pytest

from tests.api.support import make
from tests.clients.conftest import MODEL, Home

# It would fetch a list of prices, and tell of itself.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

litellm.telemetry = False

pytestmark = [
    # Its clients are closed at the end of the process, its answers are made of its own and OpenAI's models.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm"),
]
USER = {"role": "user"}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


class Person(pydantic.BaseModel):
    name: str
    age: int


def openai_like(home: Home) -> dict[str, Any]:
    return {"model": f"openai/{MODEL}", "api_base": f"{home.url}/v1", "api_key": "any"}


def ollama_chat(home: Home) -> dict[str, Any]:
    return {"model": f"ollama_chat/{MODEL}", "api_base": home.url}


@pytest.fixture(params=[openai_like, ollama_chat])
def there(request: pytest.FixtureRequest, home: Home) -> dict[str, Any]:
    """Both ways in which it sends conversations."""
    made: dict[str, Any] = request.param(home)
    return {**made, "num_retries": 0, "timeout": 20}


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    yield
    await close_litellm_async_clients()  # type: ignore[no-untyped-call]


def ask(words: str) -> list[dict[str, Any]]:
    return [{**USER, "content": words}]


def streamed(pieces: Any) -> str:
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def test_completion(home: Home, there: dict[str, Any]) -> None:
    answer: Any = litellm.completion(messages=ask("say Hearth| is warm"), **there)
    assert answer.choices[0].message.content == "Hearth is warm"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 2


def test_stream(there: dict[str, Any]) -> None:
    asked = {"messages": ask("slow 4"), "stream": True, "stream_options": {"include_usage": True}}
    pieces: Any = list(litellm.completion(**asked, **there))
    assert streamed(pieces) == "0 1 2 3 "
    assert "stop" in [piece.choices[0].finish_reason for piece in pieces if piece.choices]
    assert pieces[-1].usage.completion_tokens > 0


async def test_async(there: dict[str, Any]) -> None:
    answer: Any = await litellm.acompletion(messages=ask("say x"), **there)
    assert answer.choices[0].message.content == "x"
    pieces: Any = await litellm.acompletion(messages=ask("slow 3"), stream=True, **there)
    told = [piece.choices[0].delta.content or "" async for piece in pieces if piece.choices]
    assert "".join(told) == "0 1 2 "


def test_tools_there_and_back(home: Home, there: dict[str, Any]) -> None:
    asked = ask(make({"call": ["add", '{"a": 1, "b": 2}']}))
    answer: Any = litellm.completion(messages=asked, tools=[ADD], **there)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1, "b": 2})
    assert answer.choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "name": "add", "content": "say three"}
    turn = answer.choices[0].message.model_dump(exclude_none=True)
    after: Any = litellm.completion(messages=[*asked, turn, result], tools=[ADD], **there)
    assert after.choices[0].message.content == "three"
    told = home.last_chat().messages
    assert [one.role for one in told] == ["user", "assistant", "tool"]
    # To Ollama litellm 1.83 does not tell the calls of earlier turns.
    assert [call.name for call in told[1].calls] == ([] if "ollama" in there["model"] else ["add"])


def test_tools_in_a_stream(there: dict[str, Any]) -> None:
    asked = {"messages": ask(make({"call": ["add", '{"a": 1}']})), "tools": [ADD], "stream": True}
    pieces: Any = litellm.completion(**asked, **there)
    whole: Any = litellm.stream_chunk_builder(list(pieces))
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})


@pytest.mark.parametrize(("form", "wanted"), [({"type": "json_object"}, None), (Person, ["name", "age"])])
def test_json(home: Home, there: dict[str, Any], form: Any, wanted: list[str] | None) -> None:
    said = 'say {"name": "Ada", "age": 36}'
    answer: Any = litellm.completion(messages=ask(said), response_format=form, **there)
    assert Person.model_validate_json(answer.choices[0].message.content) == Person(name="Ada", age=36)
    assert json.loads(home.last_chat().json_schema or "").get("required") == wanted


def test_options_reach_the_job(home: Home, there: dict[str, Any]) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 5, "stop": ["END"], "seed": 4, "top_p": 0.5}
    litellm.completion(messages=ask("say x"), **options, **there)
    sampling = home.last_chat().sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.stop) == (0, 5, ("END",))
    assert (sampling.seed, sampling.top_p) == (4, 0.5)


def test_errors_say_what_is_wrong(home: Home) -> None:
    there = {**openai_like(home), "num_retries": 0}
    with pytest.raises(litellm.exceptions.BadRequestError, match="context 512"):
        litellm.completion(messages=ask("too long"), **there)
    with pytest.raises(litellm.exceptions.NotFoundError, match="there is: tiny-chat"):
        litellm.completion(messages=ask("x"), **{**there, "model": "openai/none"})
    # What Ollama's providers do not know they tell as a broken connection, but with our words.
    with pytest.raises(litellm.exceptions.APIConnectionError, match="context 512"):
        litellm.completion(messages=ask("too long"), num_retries=0, **ollama_chat(home))


def test_the_older_ollama_provider_makes_one_prompt(home: Home) -> None:
    there: dict[str, Any] = {"model": f"ollama/{MODEL}", "api_base": home.url, "num_retries": 0}
    answer: Any = litellm.completion(messages=ask("say x"), response_format={"type": "json_object"}, **there)
    assert "say x" in answer.choices[0].message.content, "the stand-in echoes what it does not know"
    job = home.last_chat()
    assert [(turn.role, turn.content) for turn in job.messages] == [("user", "### User:\nsay x\n\n")]
    assert json.loads(job.json_schema or "")["type"] == "object"
    assert "say y" in streamed(litellm.completion(messages=ask("say y"), stream=True, **there))


def test_its_list_of_models(home: Home) -> None:
    from litellm.llms.ollama.common_utils import OllamaModelInfo

    assert OllamaModelInfo().get_models(api_base=home.url) == [f"{MODEL}:latest"]
