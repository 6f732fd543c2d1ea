"""LangChain's ChatOpenAI pointed at us."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.api.support import make
from tests.clients.conftest import MODEL, Home
from tests.clients.material import ADA, Person, add

Chat = Callable[..., ChatOpenAI]


@pytest.fixture
async def chat(home: Home) -> AsyncIterator[Chat]:
    """Makes models; what they connect with is closed afterwards, which they leave to others."""
    async with openai.DefaultAsyncHttpxClient() as there:
        with openai.DefaultHttpxClient() as here:
            common: dict[str, Any] = {"model": MODEL, "base_url": f"{home.url}/v1", "api_key": "any"}
            common |= {"http_client": here, "http_async_client": there, "max_retries": 0}
            yield lambda **more: ChatOpenAI(**common, **more)


@pytest.fixture
def model(chat: Chat) -> ChatOpenAI:
    return chat()


def test_invoke(home: Home, model: ChatOpenAI) -> None:
    answer = model.invoke([SystemMessage("be short"), HumanMessage("say Hearth| is warm")])
    assert answer.text == "Hearth is warm"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == MODEL
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 2
    assert answer.usage_metadata["input_token_details"]["cache_read"] == 2
    assert [turn.role for turn in home.last_chat().messages] == ["system", "user"]


def test_stream_with_its_usage(chat: Chat) -> None:
    pieces = list(chat(stream_usage=True).stream("slow 4"))
    assert len([piece for piece in pieces if piece.text]) > 1
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "0 1 2 3 "
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 4
    assert whole.response_metadata["finish_reason"] == "stop"


async def test_astream_and_ainvoke(model: ChatOpenAI) -> None:
    assert "".join([piece.text async for piece in model.astream("slow 3")]) == "0 1 2 "
    assert (await model.ainvoke("say x")).text == "x"


def test_batch(model: ChatOpenAI) -> None:
    assert [answer.text for answer in model.batch([f"say {n}" for n in range(4)])] == list("0123")


def test_stop_and_options_reach_the_job(home: Home, chat: Chat) -> None:
    asking = chat(temperature=0, max_completion_tokens=7, seed=5, top_p=0.5)
    asking.invoke("say x", stop=["\n", "END"])
    sampling = home.last_chat().sampling
    assert (sampling.stop, sampling.max_tokens, sampling.seed) == (("\n", "END"), 7, 5)
    assert (sampling.temperature, sampling.top_p) == (0, 0.5)


def test_tools_there_and_back(home: Home, model: ChatOpenAI) -> None:
    told = [HumanMessage(make({"call": ["add", '{"a": 1, "b": 2}']}))]
    answer = model.bind_tools([add]).invoke(told)
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2})
    result = add.invoke(call)
    assert isinstance(result, ToolMessage)
    after = model.bind_tools([add]).invoke([*told, answer, result])
    assert after.text == "3", "the stand-in echoes the last turn"
    assert [turn.role for turn in home.last_chat().messages] == ["user", "assistant", "tool"]


def test_tools_in_a_stream(model: ChatOpenAI) -> None:
    said = make(
        {"say": "Well."}, {"call": ["add", '{"a": 1, "b": 2}']}, {"call": ["add", '{"a": 3, "b": 4}']}
    )
    whole: Any = None
    for piece in model.bind_tools([add]).stream(said):
        whole = piece if whole is None else whole + piece
    assert isinstance(whole, AIMessageChunk)
    assert whole.text == "Well."
    assert [call["args"] for call in whole.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert whole.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("choice", ["auto", "any", "required", "add"])
def test_a_choice_of_tools(home: Home, model: ChatOpenAI, choice: str) -> None:
    model.bind_tools([add], tool_choice=choice, parallel_tool_calls=False).invoke("say x")
    wanted = {"any": "required"}.get(choice, choice)
    assert home.last_chat().tool_choice == wanted


@pytest.mark.parametrize("strict", [True, None])
def test_structured_output_by_schema(home: Home, model: ChatOpenAI, strict: bool | None) -> None:
    bound = model.with_structured_output(Person, method="json_schema", strict=strict)
    assert bound.invoke(f"say {ADA.model_dump_json()}") == ADA
    assert json.loads(home.last_chat().json_schema or "")["required"] == ["name", "age"]


def test_structured_output_by_a_call(home: Home, model: ChatOpenAI) -> None:
    bound = model.with_structured_output(Person, method="function_calling", include_raw=True)
    answer: Any = bound.invoke(make({"call": ["Person", ADA.model_dump_json()]}))
    assert (answer["parsed"], answer["parsing_error"]) == (ADA, None)
    assert home.last_chat().tool_choice == "Person"


@pytest.mark.parametrize("method", ["json_mode", "json_schema"])
def test_structured_output_as_a_dictionary(
    home: Home, model: ChatOpenAI, method: Literal["json_mode", "json_schema"]
) -> None:
    schema = {**Person.model_json_schema(), "title": "Person"}
    bound = model.with_structured_output(schema, method=method)
    assert bound.invoke(f"say {ADA.model_dump_json()}") == {"name": "Ada", "age": 36}
    assert home.last_chat().json_schema is not None


# It is LangChain that does not expect what the SDK has parsed.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_structured_output_in_a_stream(model: ChatOpenAI) -> None:
    bound = model.with_structured_output(Person)
    last = [piece async for piece in bound.astream('say {"name": "Ada",| "age": 36}')][-1]
    assert last == ADA


def test_probabilities(model: ChatOpenAI) -> None:
    answer = model.bind(logprobs=True, top_logprobs=2).invoke("say a|b")
    told = answer.response_metadata["logprobs"]["content"]
    assert [token["token"] for token in told] == ["a", "b"]


def test_errors_are_the_sdks_own(chat: Chat, model: ChatOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="context") as long:
        model.invoke("too long")
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        model.bind(model="gpt-5").invoke("hi")
    with pytest.raises(openai.BadRequestError, match="at most 8 answers"):
        chat(n=9).invoke("hi")
