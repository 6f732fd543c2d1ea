"""LangChain's ChatOllama and OllamaLLM pointed at us."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import ollama
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaLLM

from tests.api.support import make
from tests.clients.conftest import MODEL, Home
from tests.clients.material import ADA, Person, add

NAME = f"{MODEL}:latest"


Chat = Callable[..., ChatOllama]


@pytest.fixture
async def closing() -> AsyncIterator[list[Any]]:
    """What is put in here is closed afterwards: LangChain leaves that to the end of the process."""
    made: list[Any] = []
    yield made
    for each in made:
        each._client.close()
        await each._async_client.close()


@pytest.fixture
def chat(home: Home, closing: list[Any]) -> Chat:
    def make_one(**more: Any) -> ChatOllama:
        closing.append(ChatOllama(**{"base_url": home.url, "model": NAME, **more}))
        made: ChatOllama = closing[-1]
        return made

    return make_one


@pytest.fixture
def model(chat: Chat) -> ChatOllama:
    return chat()


def test_invoke(home: Home, model: ChatOllama) -> None:
    answer = model.invoke([SystemMessage("be short"), HumanMessage("say Hearth| is warm")])
    assert answer.text == "Hearth is warm"
    assert answer.response_metadata["done_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 2
    assert [turn.role for turn in home.last_chat().messages] == ["system", "user"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_model_is_looked_for_first(chat: Chat) -> None:
    assert chat(validate_model_on_init=True).invoke("say x").text == "x"
    with pytest.raises(ValueError, match="not found"):
        chat(model="llama3.2", validate_model_on_init=True)
    gc.collect()  # whose connections nobody can close any more: not in another test


def test_stream(model: ChatOllama) -> None:
    pieces = list(model.stream("slow 4"))
    assert len([piece for piece in pieces if piece.text]) > 1
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "0 1 2 3 "
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 4


async def test_astream_and_ainvoke(model: ChatOllama) -> None:
    assert "".join([piece.text async for piece in model.astream("slow 3")]) == "0 1 2 "
    assert (await model.ainvoke("say x")).text == "x"


def test_batch(model: ChatOllama) -> None:
    assert [answer.text for answer in model.batch([f"say {n}" for n in range(4)])] == list("0123")


def test_stop_and_options_reach_the_job(home: Home, chat: Chat) -> None:
    asking = chat(
        temperature=0,
        num_predict=7,
        seed=5,
        top_k=3,
        num_ctx=8192,
        num_thread=4,
        mirostat=0,
        repeat_penalty=1.1,
        keep_alive="10m",
    )
    asking.invoke("say x", stop=["\n"])
    sampling = home.last_chat().sampling
    assert (sampling.stop, sampling.max_tokens, sampling.seed) == (("\n",), 7, 5)
    assert (sampling.temperature, sampling.top_k, sampling.repetition_penalty) == (0, 3, 1.1)


def test_tools_there_and_back(home: Home, model: ChatOllama) -> None:
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


def test_tools_in_a_stream(model: ChatOllama) -> None:
    said = make(
        {"say": "Well."}, {"call": ["add", '{"a": 1, "b": 2}']}, {"call": ["add", '{"a": 3, "b": 4}']}
    )
    whole: Any = None
    for piece in model.bind_tools([add]).stream(said):
        whole = piece if whole is None else whole + piece
    assert isinstance(whole, AIMessageChunk)
    assert whole.text == "Well."
    assert [call["args"] for call in whole.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@pytest.mark.parametrize("reasoning", [True, False, None, "low"])
def test_reasoning(home: Home, chat: Chat, reasoning: bool | str | None) -> None:
    answer = chat(reasoning=reasoning).invoke(make({"think": "hm"}, {"say": "yes"}))
    assert answer.text == "yes"
    wanted = {True: True, False: False, None: None, "low": True}[reasoning]
    assert home.last_chat().thinking.is_on is wanted
    told = answer.additional_kwargs.get("reasoning_content")
    assert told == ("hm" if reasoning else None)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output(
    home: Home, model: ChatOllama, method: Literal["json_schema", "json_mode"]
) -> None:
    bound = model.with_structured_output(Person, method=method)
    assert bound.invoke(f"say {ADA.model_dump_json()}") == ADA
    schema = json.loads(home.last_chat().json_schema or "")
    assert schema.get("required") == (["name", "age"] if method == "json_schema" else None)


def test_structured_output_by_a_call(model: ChatOllama) -> None:
    bound = model.with_structured_output(Person, method="function_calling", include_raw=True)
    answer: Any = bound.invoke(make({"call": ["Person", ADA.model_dump_json()]}))
    assert (answer["parsed"], answer["parsing_error"]) == (ADA, None)


def test_errors_are_the_sdks_own(model: ChatOllama) -> None:
    with pytest.raises(ollama.ResponseError, match="context 512"):
        model.invoke("too long")
    with pytest.raises(ollama.ResponseError) as missing:
        model.bind(model="llama3.2").invoke("hi")
    assert missing.value.status_code == 404


async def test_completions(home: Home, closing: list[Any]) -> None:
    llm = OllamaLLM(base_url=home.url, model=NAME, num_predict=20)
    closing.append(llm)
    assert llm.invoke("say one|two") == "onetwo"
    assert "".join(llm.stream("slow 3")) == "0 1 2 "
    assert "".join([piece async for piece in llm.astream("slow 3")]) == "0 1 2 "
    assert llm.batch(["say a", "say b"]) == ["a", "b"]
    answered = llm.generate(["say x"], stop=["\n"])
    assert answered.generations[0][0].text == "x"
    assert home.last_chat().sampling.stop == ("\n",)
