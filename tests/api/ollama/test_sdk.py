"""Ollama's own SDK against the real server, unchanged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import ollama
import pytest
import redis

from tasks import keys
from tests.api.conftest import Served
from tests.api.support import StandIn, make, until

NAME = "tiny-chat:latest"
USER = {"role": "user"}


@pytest.fixture
def sdk(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url, timeout=20) as client:
        yield client


def test_a_whole_answer_and_what_it_took(sdk: ollama.Client, worker: StandIn) -> None:
    answer = sdk.chat(NAME, [{**USER, "content": "say Hearth| is warm"}])
    assert answer.message.content == "Hearth is warm"
    assert answer.model == NAME
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert answer.eval_count == 2
    assert answer.total_duration is not None
    assert answer.total_duration > 1_000_000


def test_a_stream_comes_piece_by_piece(sdk: ollama.Client, worker: StandIn) -> None:
    times, pieces = [], []
    for part in sdk.chat("tiny-chat", [{**USER, "content": "slow 10"}], stream=True):
        times.append(time.monotonic())
        pieces.append(part.message.content or "")
        last = part
    assert "".join(pieces) == "0 1 2 3 4 5 6 7 8 9 "
    assert last.done_reason == "stop"
    assert times[-1] - times[0] > 0.05, "all came at once"


def test_thoughts_have_a_field_of_their_own(sdk: ollama.Client, worker: StandIn) -> None:
    said = make({"think": "hm"}, {"say": "yes"})
    answer = sdk.chat(NAME, [{**USER, "content": said}], think=True)
    assert (answer.message.thinking, answer.message.content) == ("hm", "yes")


def test_a_tool_is_called_and_its_result_templated_back(sdk: ollama.Client, worker: StandIn) -> None:
    def light(room: str) -> str:
        """Switch on a light.

        Args:
            room: where
        """
        return f"the {room} is bright"

    asked = {**USER, "content": make({"call": ["light", '{"room": "kitchen"}']})}
    answer = sdk.chat(NAME, [asked], tools=[light])
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("light", {"room": "kitchen"})
    result = {"role": "tool", "tool_name": "light", "content": light(**call.function.arguments)}
    after = sdk.chat(NAME, [asked, answer.message, result])
    assert after.message.content == "the kitchen is bright", "the stand-in echoes the last turn"


def test_generate(sdk: ollama.Client, worker: StandIn) -> None:
    assert sdk.generate(NAME, "say one|two").response == "onetwo"
    parts = sdk.generate(NAME, "say one|two", stream=True, system="be short")
    assert "".join(part.response or "" for part in parts) == "onetwo"


def test_without_a_prompt_the_model_is_loaded_and_nothing_said(sdk: ollama.Client, worker: StandIn) -> None:
    for answer in (sdk.generate(NAME), sdk.generate(NAME, keep_alive=-1)):
        assert (answer.response, answer.done_reason) == ("", "load")
    assert sdk.chat(NAME).done_reason == "load"
    assert len(worker.seen) == 3, "each was a job: the model is really there"


def test_the_lists(sdk: ollama.Client) -> None:
    (model,) = sdk.list().models
    assert (model.model, model.size) == (NAME, 1_000_000)
    assert model.details is not None
    assert model.details.family == "qwen2"
    shown = sdk.show("tiny")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["qwen2.context_length"] == 512
    (resident,) = sdk.ps().models
    assert (resident.model, resident.size_vram, resident.context_length) == (NAME, 900_000, 512)
    assert resident.expires_at is not None
    assert resident.expires_at.tzinfo is not None


def test_pulling_what_is_there_succeeds_and_anything_else_says_why(sdk: ollama.Client) -> None:
    assert sdk.pull(NAME).status == "success"
    assert [part.status for part in sdk.pull(NAME, stream=True)][-1] == "success"
    with pytest.raises(ollama.ResponseError, match="models directory") as caught:
        sdk.pull("llama3.2")
    assert caught.value.status_code == 404


def test_what_would_change_the_models_is_refused(sdk: ollama.Client) -> None:
    refused: list[Callable[[], object]] = [
        lambda: sdk.create("mine", from_=NAME),
        lambda: sdk.push(NAME),
        lambda: sdk.copy(NAME, "mine"),
    ]
    for call in refused:
        with pytest.raises(ollama.ResponseError, match="directories on the server") as caught:
            call()
        assert caught.value.status_code == 501


def test_embeddings_are_refused_with_the_reason(sdk: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no embedding model is installed"):
        sdk.embed(NAME, "hello")
    with pytest.raises(ollama.ResponseError, match="no embedding model is installed") as caught:
        sdk.embeddings("nomic-embed-text", "hello")
    assert caught.value.status_code == 404


def test_errors_arrive_as_the_sdk_raises_them(sdk: ollama.Client, worker: StandIn) -> None:
    with pytest.raises(ollama.ResponseError, match="there is no model") as missing:
        sdk.chat("llama3.2", [{**USER, "content": "hi"}])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="context 512"):
        sdk.chat(NAME, [{**USER, "content": "too long"}])
    with pytest.raises(ollama.ResponseError, match="context 512"):
        list(sdk.chat(NAME, [{**USER, "content": "too long"}], stream=True))


def test_a_client_that_leaves_cancels_its_job(served: Served, worker: StandIn, house: redis.Redis) -> None:
    with ollama.Client(host=served.url, timeout=0.5) as hasty, pytest.raises(httpx.TimeoutException):
        hasty.chat(NAME, [{**USER, "content": "wait"}])
    until(lambda: worker.seen and house.hget(keys.job(worker.seen[0]), "state") == b"cancelled")


def test_who_waits_hears_its_place_in_lines_that_add_nothing(
    sdk: ollama.Client, worker: StandIn, house: redis.Redis
) -> None:
    worker.paused = True
    first = threading.Thread(target=sdk.chat, args=(NAME, [{**USER, "content": "say first"}]))
    first.start()
    until(lambda: house.zcard(keys.READY) == 1)
    parts: Iterator[ollama.ChatResponse] = sdk.chat(NAME, [{**USER, "content": "say second"}], stream=True)
    told = next(parts)
    assert told.message.content == ""
    assert not told.done
    worker.paused = False
    assert "".join(part.message.content or "" for part in parts) == "second"
    first.join()
