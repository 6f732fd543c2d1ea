"""Every field of a chat request is honoured, refused by name, or reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from api.errors import Refusal
from api.openai.request import Terms, chat_jobs, validated
from api.openai.schemas import ChatRequest
from config.settings import Settings
from tasks.errors import ContextTooLong
from tasks.jobs import ChatJob, JobClass
from tests.api.support import TINY, ask

TERMS = Terms("anonymous", JobClass.CHAT)


def _job(body: dict[str, Any], **model: Any) -> ChatJob:
    settings = Settings(redis_url=None)
    return chat_jobs(validated(ChatRequest, body), replace(TINY, **model), TERMS, settings)[0]


def _refused(body: Any) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        _job(body)
    return refused.value.problem.code, refused.value.problem.param


def _user(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


def schema(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": of, "strict": True}}


TOOL = {"type": "function", "function": {"name": "add"}}


def strict(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "bound", "parameters": parameters, "strict": True}}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 9}, "invalid_value", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"functions": [{}]}, "unsupported_value", "functions"),
        ({"function_call": {"name": "f"}}, "unsupported_value", "function_call"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (
            {"tools": [strict({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}})]},
            "unsupported_value",
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL, strict({"type": "string"})]}, "unsupported_value", "tools[1].function.parameters"),
        ({"tools": [strict({"enum": ["x" * 40_000]})]}, "invalid_value", "tools[0].function.parameters"),
        (
            {"response_format": schema({"type": "objekt"})},
            "unsupported_value",
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": schema({"type": "string", "pattern": "(?=x)"})},
            "unsupported_value",
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": schema({"$ref": "https://example.org/schema.json"})},
            "unsupported_value",
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": schema({"enum": ["x" * 40_000]})},
            "invalid_value",
            "response_format.json_schema.schema",
        ),
        ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        ({"audio": {"voice": "alloy"}}, "unsupported_value", "audio"),
        ({"web_search_options": {}}, "unsupported_value", "web_search_options"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": -0.1}, "invalid_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": 1e999}, "invalid_value", "temperature"),
        ({"top_p": 1.5}, "invalid_value", "top_p"),
        ({"top_k": -2}, "invalid_value", "top_k"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": 10**30}, "invalid_value", "max_tokens"),
        ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
        ({"max_completion_tokens": "9"}, "invalid_type", "max_completion_tokens"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"seed": -(2**63) - 1}, "invalid_value", "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "invalid_value", "stop"),
        ({"stop": ["a", 1]}, "invalid_type", "stop[1]"),
        ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": 5}, "invalid_type", "stop"),
        ({"stop": {}}, "invalid_type", "stop"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": True}, "invalid_type", "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "invalid_value", "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "invalid_value", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"service_tier": "platinum"}, "invalid_value", "service_tier"),
        ({"verbosity": "chatty"}, "invalid_value", "verbosity"),
        ({"user": 7}, "invalid_type", "user"),
        ({"store": "yes"}, "invalid_type", "store"),
        ({"model": 7}, "invalid_type", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "unsupported_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    assert _refused(ask(**fields)) == (code, param)


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        ([IMAGE], "unsupported_value", "messages[0].content[0]"),
        ([{"type": "text", "text": "a"}, IMAGE], "unsupported_value", "messages[0].content[1]"),
        ([{"type": "input_audio", "input_audio": {}}], "unsupported_value", "messages[0].content[0]"),
        ([{"type": "file", "file": {}}], "unsupported_value", "messages[0].content[0]"),
        ([{"type": "\x00\n"}], "unsupported_value", "messages[0].content[0]"),
        ([{"type": "text"}], "invalid_type", "messages[0].content[0].text"),
        ([{"type": "text", "text": 5}], "invalid_type", "messages[0].content[0].text"),
        ([{}], "missing_required_parameter", "messages[0].content[0].type"),
        (["text"], "invalid_type", "messages[0].content[0]"),
        (5, "invalid_type", "messages[0].content"),
        ({"type": "text"}, "invalid_type", "messages[0].content"),
        (None, "missing_required_parameter", "messages[0].content"),
    ],
)
def test_content_that_is_not_text_is_named(content: Any, code: str, param: str) -> None:
    assert _refused(_user(content)) == (code, param)


@pytest.mark.parametrize("body", [None, 5, "x", [], True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert _refused(body) == ("invalid_type", None)


def test_too_many_messages_are_refused() -> None:
    turn = {"role": "user", "content": "x"}
    assert _refused(ask(messages=[turn] * 1025)) == ("invalid_value", "messages")


def test_neutral_values_pass() -> None:
    neutral: dict[str, Any] = {
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {"5": 0},
        "logprobs": False,
        "top_logprobs": 0,
        "tools": [],
        "tool_choice": "auto",
        "functions": [],
        "function_call": "none",
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "verbosity": "medium",
        "store": False,
        "user": "me",
        "stop": [],
        "service_tier": "auto",
    }
    assert _job(ask(**neutral)).submission.warnings == ()
    assert _job(ask(**dict.fromkeys(neutral))).submission.warnings == ()


@pytest.mark.parametrize(
    ("form", "bound_to"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        (schema({"type": "object", "properties": {"a": {"type": "integer"}}}), None),
        ({"type": "json_schema", "json_schema": {"name": "any"}}, {"type": "object"}),
    ],
)
def test_an_answer_is_bound_to_the_form_asked_for(
    form: dict[str, Any], bound_to: dict[str, Any] | None
) -> None:
    bound = _job(ask(response_format=form)).json_schema
    if form["type"] == "text":
        assert bound is None
    else:
        assert bound is not None
        assert json.loads(bound) == (bound_to or form["json_schema"]["schema"])


def test_names_nobody_knows_are_ignored() -> None:
    extras: dict[str, Any] = {
        "ignore_eos": True,
        "keep_alive": -1,
        "mirostat": 2,
    }
    assert _job(ask(**extras)).submission.warnings == ()


def test_what_has_no_effect_is_reported() -> None:
    asked: dict[str, Any] = {
        "store": True,
        "service_tier": "scale",
        "verbosity": "high",
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_key": "k",
        "stream_options": {"include_usage": True},
    }
    warnings = "; ".join(_job(ask(**asked)).submission.warnings)
    for name in asked:
        assert name in warnings


def test_sampling_is_taken_as_asked() -> None:
    asked: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 7,
        "seed": -5,
        "stop": "END",
        "max_tokens": 9,
    }
    sampling = _job(ask(**asked)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0, 0.5, 7)
    assert (sampling.seed, sampling.stop, sampling.max_tokens) == (-5, ("END",), 9)


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert _job(ask(max_tokens=9, max_completion_tokens=4)).sampling.max_tokens == 4


def test_a_nucleus_of_nothing_is_the_likeliest_token() -> None:
    sampling = _job(ask(top_p=0, top_k=40)).sampling
    assert (sampling.top_p, sampling.top_k) == (1.0, 1)


def test_minus_one_is_no_limit_for_top_k() -> None:
    assert _job(ask(top_k=-1)).sampling.top_k == 0


def test_a_seed_is_fixed_at_submit() -> None:
    seeds = {_job(ask()).sampling.seed for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_parts_and_roles_become_messages() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    job = _job({"model": "m", "messages": turns})
    assert [(turn.role, turn.content) for turn in job.messages] == [("system", "be brief"), ("user", "a\nb")]


def test_what_no_tokenizer_could_fit_is_refused() -> None:
    with pytest.raises(ContextTooLong) as refused:
        _job(ask("x" * 512 * 8))
    assert refused.value.param == "messages"
    assert "512" in refused.value.message


def test_what_might_fit_is_left_to_the_tokenizer() -> None:
    assert _job(ask("x" * (512 * 8 - 1)))
    assert _job(ask("x" * 100_000), context=None)
    assert _job(ask("x" * 100_000), longest_token_bytes=None)


def test_bytes_are_counted_as_tokenizers_see_them() -> None:
    decomposed = "e\u0301" * 1400  # 4200 bytes as sent, 2800 as NFC
    assert _job(ask(decomposed))
    with pytest.raises(ContextTooLong):
        _job(ask("\u00e9" * 2048))
