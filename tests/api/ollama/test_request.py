from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refusal
from api.ollama.request import wanted_chat, wanted_text
from api.ollama.schemas import OllamaChat, OllamaGenerate
from api.openai.request import Terms, validated
from config.settings import Settings, read_settings
from tasks.jobs import ChatJob, JobClass, RawPrompt, Sampling
from tests.api.support import TINY, StandIn

TERMS = Terms("me", JobClass.CHAT)
SETTINGS = read_settings()


TOOL = {"type": "function", "function": {"name": "light"}}


def chat(**fields: Any) -> ChatJob:
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    return wanted_chat(validated(OllamaChat, body), TINY, TERMS, SETTINGS)


def test_options_become_sampling() -> None:
    options = {
        "temperature": 0.2,
        "top_k": 30,
        "top_p": 0.9,
        "min_p": 0.05,
        "seed": 7,
        "num_predict": 12,
        "repeat_penalty": 1.2,
        "repeat_last_n": 64,
        "stop": ["\n"],
        "num_gpu": 99,
    }
    assert chat(options=options).sampling == Sampling(
        seed=7,
        max_tokens=12,
        temperature=0.2,
        top_k=30,
        top_p=0.9,
        stop=("\n",),
        min_p=0.05,
        repetition_penalty=1.2,
        repetition_window=64,
    )


def test_a_form_holds_beside_tools() -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}
    job = chat(
        format="json", tools=[TOOL, {"type": "function", "function": {"name": "odd", "parameters": odd}}]
    )
    assert job.json_schema == '{"type":"object"}'
    assert [tool.name for tool in job.tools] == ["light", "odd"]
    assert any("'odd' are not bound" in warning for warning in job.submission.warnings)


def test_ollamas_words_for_no_limit() -> None:
    assert chat(options={"num_predict": -1}).sampling.max_tokens is None
    assert chat(options={"num_predict": -2}).sampling.max_tokens is None
    assert chat(options={"repeat_last_n": -1, "repeat_penalty": 1.1}).sampling.repetition_window == 0
    assert chat(options={"repeat_last_n": 0, "repeat_penalty": 1.1}).sampling.repetition_penalty == 1.0


def test_what_home_assistant_always_sends_is_a_wish() -> None:
    job = chat(keep_alive=-1, options={"num_ctx": 8192}, think=False)
    assert any("num_ctx" in warning for warning in job.submission.warnings)
    assert any("keep_alive" in warning for warning in job.submission.warnings)
    assert job.thinking.is_on is False


def test_a_format_binds_the_answer() -> None:
    assert chat(format="").json_schema is None
    assert json.loads(chat(format="json").json_schema or "") == {"type": "object"}
    assert json.loads(chat(format={"type": "integer"}).json_schema or "") == {"type": "integer"}


def test_results_find_their_calls() -> None:
    turns = [
        {"role": "user", "content": "both lights"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"function": {"name": "light", "arguments": {"room": "a"}}},
                {"function": {"name": "sound", "arguments": {}}},
                {"function": {"name": "light", "arguments": {"room": "b"}}},
            ],
        },
        {"role": "tool", "tool_name": "sound", "content": "s"},
        {"role": "tool", "tool_name": "light", "content": "a"},
        {"role": "tool", "content": "b"},
    ]
    job = chat(messages=turns)
    calls = [call.id for call in job.messages[1].calls]
    assert [turn.call_id for turn in job.messages[2:]] == [calls[1], calls[0], calls[2]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"num_predict": 0}}, "options.num_predict"),
        ({"options": {"stop": 3}}, "options.stop"),
        ({"think": "hard"}, "think"),
        ({"format": "xml"}, "format"),
        ({"format": {"type": "objekt"}}, "format"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": [1]}, "keep_alive"),
        ({"tools": ["light"]}, "tools[0]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        chat(**fields)
    assert caught.value.problem.param == param


def test_a_result_without_its_call_is_shown_as_it_came_and_reported() -> None:
    """litellm leaves the calls out of an assistant's turn."""
    turns = [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "images": []},
        {"role": "tool", "content": "3", "images": []},
    ]
    job = chat(messages=turns)
    assert [(turn.role, turn.content) for turn in job.messages][1:] == [("assistant", ""), ("tool", "3")]
    assert "messages[2] is the result of a tool that no turn has called" in job.submission.warnings
    request = validated(OllamaChat, {"model": "tiny-chat", "messages": turns})
    with pytest.raises(Refusal, match="not made for tools"):
        wanted_chat(request, replace(TINY, knows_tools=False), TERMS, SETTINGS)


def test_a_model_that_does_not_think_says_so_only_when_asked_to() -> None:
    plain = replace(TINY, knows_thinking=False)
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
    wanted_chat(validated(OllamaChat, {**body, "think": False}), plain, TERMS, SETTINGS)
    with pytest.raises(Refusal, match="does not support thinking"):
        wanted_chat(validated(OllamaChat, {**body, "think": True}), plain, TERMS, SETTINGS)


@pytest.mark.parametrize(
    ("fields", "raw"),
    [
        ({"raw": True}, RawPrompt("hi")),
        ({"suffix": "}"}, RawPrompt("hi", suffix="}")),
        ({"raw": True, "suffix": "}"}, RawPrompt("hi", suffix="}")),
        ({"prompt": "", "suffix": "}"}, RawPrompt("", suffix="}")),
        ({"raw": False}, None),
        ({"suffix": ""}, None),
    ],
)
def test_a_raw_prompt_stays_as_it_stands(fields: dict[str, Any], raw: RawPrompt | None) -> None:
    body = {"model": "tiny-chat", "prompt": "hi", "options": {"num_predict": 3}, "format": "json", **fields}
    job = wanted_text(validated(OllamaGenerate, body), TINY, TERMS, SETTINGS)
    assert job.raw == raw
    assert (job.messages == ()) == (raw is not None)
    assert job.sampling.max_tokens == 3
    assert job.json_schema == '{"type":"object"}'


@pytest.mark.parametrize("field", [{"system": "x"}, {"think": True}, {"think": "low"}])
def test_what_a_raw_prompt_leaves_no_room_for_is_refused_by_name(field: dict[str, Any]) -> None:
    request = validated(OllamaGenerate, {"model": "tiny-chat", "prompt": "hi", "raw": True, **field})
    with pytest.raises(Refusal) as caught:
        wanted_text(request, TINY, TERMS, SETTINGS)
    assert caught.value.problem.param == next(iter(field))


@pytest.mark.parametrize("field", [{"template": "x"}, {"context": [1]}, {"images": ["x"]}])
def test_what_generate_cannot_do_is_refused_by_name(field: dict[str, Any]) -> None:
    request = validated(OllamaGenerate, {"model": "tiny-chat", "prompt": "hi", **field})
    with pytest.raises(Refusal) as caught:
        wanted_text(request, TINY, TERMS, SETTINGS)
    assert caught.value.problem.param == next(iter(field))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["messages", "tools", "options", "think", "format", "keep_alive", "stream"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_no_body_makes_anything_but_a_job_or_a_refusal(fields: dict[str, Any]) -> None:
    try:
        status = 202 if isinstance(chat(**fields), ChatJob) else 500
    except Refusal as refusal:
        status = refusal.problem.form.status
    assert status in (202, 400)


async def test_whether_it_lives(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).text == "Ollama is running"
    assert (await client.head("/")).status_code == 200
    assert (await client.get("/", headers={"accept": "text/html"})).headers["location"] == "/docs"
    version = (await client.get("/api/version")).json()["version"]
    assert tuple(int(part) for part in version.split(".")) >= (0, 13, 0)


async def test_home_assistants_sequence(client: httpx.AsyncClient, worker: StandIn) -> None:
    """What its Ollama integration asks when it is set up, and for every sentence spoken to it."""
    listed = (await client.get("/api/tags")).json()["models"]
    name = listed[0]["model"]
    body = {
        "model": name,
        "messages": [
            {"role": "system", "content": "You are a voice assistant."},
            {"role": "user", "content": "say done"},
        ],
        "tools": [{"type": "function", "function": {"name": "HassTurnOn", "parameters": {"type": "object"}}}],
        "stream": True,
        "keep_alive": -1,
        "options": {"num_ctx": 8192},
        "think": False,
    }
    answer = await client.post("/api/chat", json=body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == "done"
    assert lines[-1]["done"] is True


async def test_a_list_never_waits_for_the_card(settings: Settings, client: httpx.AsyncClient) -> None:
    """No worker runs in this test: whatever asked one would wait for ever."""
    for path in ("/api/tags", "/api/ps", "/api/version"):
        assert (await client.get(path, timeout=2)).status_code == 200
    for name in ("tiny-chat", "tiny-chat:latest", "tiny"):
        assert (await client.post("/api/show", json={"model": name})).status_code == 200
