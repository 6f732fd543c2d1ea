"""Sampling, thinking and tools of a chat request: honoured, refused by name, or reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from api.errors import Refusal
from api.openai.request import Terms, chat_job, validated
from api.openai.schemas import ChatRequest
from config.settings import Settings
from tasks import jobs
from tasks.jobs import Call, ChatJob, JobClass, Message, Thinking, ToolChoice
from tests.api.support import TINY, ask


def _job(body: dict[str, Any], **model: Any) -> ChatJob:
    terms = Terms("anonymous", JobClass.CHAT)
    return chat_job(validated(ChatRequest, body), replace(TINY, **model), terms, Settings(redis_url=None))


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def calling(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "add", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(call_id: str | None) -> dict[str, Any]:
    return {"role": "tool", "content": "2", "tool_call_id": call_id}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"frequency_penalty": 2.1}, "invalid_value", "frequency_penalty"),
        ({"presence_penalty": -3}, "invalid_value", "presence_penalty"),
        ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
        ({"repeat_penalty": 11}, "invalid_value", "repeat_penalty"),
        ({"min_p": -0.1}, "invalid_value", "min_p"),
        ({"typical_p": 0}, "invalid_value", "typical_p"),
        ({"logit_bias": {"12": 101}}, "invalid_value", "logit_bias.12"),
        ({"logit_bias": {"12": "5"}}, "invalid_type", "logit_bias.12"),
        ({"logit_bias": {"-1": 5}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"the": 5}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"9" * 10: 5}}, "invalid_value", "logit_bias"),
        ({"logprobs": 1}, "invalid_type", "logprobs"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "invalid_value", "top_logprobs"),
        ({"reasoning_effort": "huge"}, "invalid_value", "reasoning_effort"),
        ({"enable_thinking": "no"}, "invalid_type", "enable_thinking"),
        ({"thinking_budget": -1}, "invalid_value", "thinking_budget"),
        ({"chat_template_kwargs": []}, "invalid_type", "chat_template_kwargs"),
        (
            {"chat_template_kwargs": {"enable_thinking": 1}},
            "invalid_type",
            "chat_template_kwargs.enable_thinking",
        ),
        ({"parallel_tool_calls": 1}, "invalid_type", "parallel_tool_calls"),
    ],
)
def test_an_option_out_of_its_range_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    assert _refused(fields) == (code, param)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"tools": [{"type": "custom", "function": {"name": "a"}}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [tool("a b")]}, "invalid_value", "tools[0].function.name"),
        ({"tools": [tool("a"), tool("a")]}, "invalid_value", "tools[1].function.name"),
        ({"tools": [tool("a", parameters=[])]}, "invalid_type", "tools[0].function.parameters"),
        ({"tools": [tool(f"t{n}") for n in range(129)]}, "invalid_value", "tools"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tool_choice": 1}, "invalid_type", "tool_choice"),
        ({"tool_choice": {}}, "missing_required_parameter", "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "unsupported_value", "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "missing_required_parameter", "tool_choice.function"),
        (
            {"tool_choice": {"type": "function", "function": {}}},
            "missing_required_parameter",
            "tool_choice.function.name",
        ),
        ({"tools": [tool("a")], "tool_choice": named("b")}, "invalid_value", "tool_choice.function.name"),
        (
            {"tools": [tool("none")], "tool_choice": named("none")},
            "unsupported_value",
            "tool_choice.function.name",
        ),
    ],
)
def test_a_tool_at_fault_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    assert _refused(fields) == (code, param)


CALLS = "messages[0].tool_calls"


@pytest.mark.parametrize(
    ("turns", "code", "param"),
    [
        (
            [{"role": "assistant", "content": None, "tool_calls": []}],
            "missing_required_parameter",
            "messages[0].content",
        ),
        ([{"role": "assistant", "tool_calls": [{}]}], "missing_required_parameter", f"{CALLS}[0].id"),
        ([calling("")], "invalid_value", f"{CALLS}[0].id"),
        ([calling("1", "{")], "invalid_value", f"{CALLS}[0].function.arguments"),
        ([calling("1", "[]")], "invalid_value", f"{CALLS}[0].function.arguments"),
        (
            [{**calling("1"), "tool_calls": calling("1")["tool_calls"] * 2}],
            "invalid_value",
            f"{CALLS}[1].id",
        ),
        ([{**calling("1"), "role": "user"}], "invalid_value", CALLS),
        ([result(None)], "missing_required_parameter", "messages[0].tool_call_id"),
        ([calling("1"), result("2")], "invalid_value", "messages[1].tool_call_id"),
        ([result("1"), calling("1")], "invalid_value", "messages[0].tool_call_id"),
    ],
)
def test_a_call_or_result_at_fault_is_named(turns: list[Any], code: str, param: str) -> None:
    assert _refused({"messages": turns}) == (code, param)


def test_every_option_of_the_sampler_can_be_asked_for() -> None:
    asked: dict[str, Any] = {
        "min_p": 0.1,
        "typical_p": 0.9,
        "repetition_penalty": 1.1,
        "repeat_penalty": 1.3,
        "frequency_penalty": 0.5,
        "presence_penalty": -2,
        "logit_bias": {"12": -100, "7": 3.5},
        "logprobs": True,
        "top_logprobs": 20,
    }
    sampling = _job(ask(**asked)).sampling
    assert (sampling.min_p, sampling.typical_p, sampling.repetition_penalty) == (0.1, 0.9, 1.1)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, -2)
    assert dict(sampling.logit_bias) == {12: -100, 7: 3.5}
    assert sampling.logprobs == 20
    assert _job(ask(repeat_penalty=1.3)).sampling.repetition_penalty == 1.3
    assert _job(ask(logprobs=True)).sampling.logprobs == 0
    assert _job(ask(logprobs=False)).sampling.logprobs is None


def test_where_the_request_is_silent_the_package_decides() -> None:
    own = {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "repetition_penalty": 1.05,
        "repetition_window": 64,
        "max_tokens": 99,
    }
    silent = _job(ask(), sampling=own).sampling
    assert {name: getattr(silent, name) for name in own} == own
    spoken = _job(ask(temperature=0, top_k=-1, top_p=0.5, max_tokens=5), sampling=own).sampling
    assert (spoken.temperature, spoken.top_k, spoken.top_p, spoken.max_tokens) == (0, 0, 0.5, 5)
    assert spoken.repetition_penalty == 1.05
    plain = _job(ask(), sampling={}).sampling
    assert (plain.temperature, plain.top_k, plain.top_p, plain.max_tokens) == (0.7, 0, 1.0, None)


@pytest.mark.parametrize(
    ("fields", "is_on", "budget"),
    [
        ({}, None, None),
        ({"enable_thinking": False}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, None),
        ({"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}}, False, None),
        ({"reasoning_effort": "none"}, False, None),
        ({"reasoning_effort": "high"}, True, None),
        ({"reasoning_effort": "low"}, True, 256),
        ({"reasoning_effort": "minimal", "thinking_budget": 9}, True, 9),
        ({"reasoning_effort": "low", "enable_thinking": False}, False, None),
        ({"thinking_budget": 0}, None, 0),
    ],
)
def test_thinking_can_be_asked_for_in_every_usual_way(
    fields: dict[str, Any], is_on: bool | None, budget: int | None
) -> None:
    assert _job(ask(**fields)).thinking == Thinking(is_on, budget)


def test_other_options_reach_the_chat_template() -> None:
    job = _job(ask(chat_template_kwargs={"mood": [1], "enable_thinking": True}))
    assert job.template_options == {"mood": [1]}


def test_tools_and_their_choice_become_the_jobs() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    offered = [tool("add", description="adds", parameters=schema), tool("now")]
    job = _job(ask(tools=offered, parallel_tool_calls=False))
    assert [(each.name, each.description) for each in job.tools] == [("add", "adds"), ("now", "")]
    assert json.loads(job.tools[0].parameters) == schema
    assert json.loads(job.tools[1].parameters) == {"type": "object", "properties": {}}
    assert (job.tool_choice, job.calls_once) == (ToolChoice.AUTO, True)
    assert not _job(ask(tools=offered)).calls_once
    for choice in ("none", "required"):
        assert _job(ask(tools=offered, tool_choice=choice)).tool_choice == choice
    assert _job(ask(tools=offered, tool_choice=named("add"))).tool_choice == "add"


def test_strict_arguments_are_bound() -> None:
    job = _job(ask(tools=[tool("a", strict=True, parameters={"type": "object"}), tool("b")]))
    assert [offered.strict for offered in job.tools] == [True, False]
    assert job.submission.warnings == ()


ODD = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}


@pytest.mark.parametrize(
    ("fields", "is_told"),
    [
        ({}, False),
        ({"tool_choice": "none", "response_format": {"type": "json_object"}}, False),
        ({"tool_choice": "required"}, True),
        ({"tool_choice": named("odd")}, True),
        ({"tool_choice": named("plain")}, False),
        ({"response_format": {"type": "json_object"}}, True),
    ],
)
def test_what_a_call_cannot_be_bound_to_is_told(fields: dict[str, Any], is_told: bool) -> None:
    """Only where calls are bound at all; the rest of a form holds beside tools."""
    job = _job(ask(tools=[tool("odd", parameters=ODD), tool("plain")], **fields))
    assert any("'odd' are not bound" in warning for warning in job.submission.warnings) == is_told
    assert (job.json_schema is not None) == ("response_format" in fields)


def test_calls_and_their_results_become_messages() -> None:
    turns = [
        {"role": "user", "content": "1+1?"},
        {**calling("c1", '{"a": 1}'), "reasoning_content": "I add"},
        result("c1"),
        calling("c2", ""),
        result("c2"),
    ]
    job = _job(ask(messages=turns))
    assert job.messages[1] == Message("assistant", "", (Call("c1", "add", '{"a": 1}'),), reasoning="I add")
    assert job.messages[2] == Message("tool", "2", call_id="c1")
    assert job.messages[3].calls == (Call("c2", "add", "{}"),)
    assert jobs.decode(jobs.encode(job)) == job


def test_a_model_that_was_not_made_for_tools_is_not_offered_any() -> None:
    for fields, param in (
        ({"tools": [tool("a")]}, "tools"),
        ({"messages": [calling("1")]}, CALLS),
        ({"messages": [result("1")]}, "messages[0].role"),
    ):
        assert _refused(fields, knows_tools=False) == ("unsupported_value", param)
    assert _job(ask(tools=[]), knows_tools=False).tools == ()


def _refused(fields: dict[str, Any], **model: Any) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        _job(ask(**fields), **model)
    return refused.value.problem.code, refused.value.problem.param
