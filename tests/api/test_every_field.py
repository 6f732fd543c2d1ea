"""Every field that OpenAI's SDK can send is honoured, reported or refused: none is overlooked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_params

from api.errors import FORMS, Refusal
from api.openai.completion_request import completion_jobs
from api.openai.completion_schemas import CompletionRequest
from api.openai.request import Terms, chat_jobs, validated
from api.openai.schemas import ChatRequest
from config.settings import Settings
from tasks.jobs import ChatJob, JobClass, JobId, Message
from tests.api.support import TINY, ask

SETTINGS = Settings(redis_url=None)
TERMS = Terms("anonymous", JobClass.CHAT)
TOOL = {"type": "function", "function": {"name": "add"}}

HONOURED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "else"}],
    "frequency_penalty": 1,
    "logit_bias": {"5": 3},
    "logprobs": True,
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "metadata": {"a": "b"},
    "n": 2,
    "presence_penalty": 1,
    "reasoning_effort": "none",
    "response_format": {"type": "json_object"},
    "seed": 5,
    "stop": "x",
    "temperature": 0.1,
    "tools": [TOOL],
    "top_p": 0.5,
}
"""Each changes the job."""
HONOURED_WITH: dict[str, tuple[Any, dict[str, Any]]] = {
    "tool_choice": ("required", {"tools": [TOOL]}),
    "parallel_tool_calls": (False, {"tools": [TOOL]}),
    "top_logprobs": (2, {"logprobs": True}),
}
BY_THE_ROUTE = {"model", "stream", "stream_options", "service_tier", "user"}
"""``service_tier`` is the class of the terms, ``user`` is nobody's business, the others shape the answer."""
REPORTED: dict[str, Any] = {
    "moderation": {},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "store": True,
    "verbosity": "low",
}
REFUSED: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "modalities": ["text", "audio"],
    "web_search_options": {},
}


def _jobs(**fields: Any) -> list[ChatJob]:
    return chat_jobs(validated(ChatRequest, ask("x", **{"seed": 1, **fields})), TINY, TERMS, SETTINGS)


def _bare(job: ChatJob) -> ChatJob:
    """Without what is another in every job."""
    about = job.submission
    same = replace(about, id=JobId("job"), created_at_ms=0, deadline_at_ms=None, batch=None, warnings=())
    return replace(job, submission=same)


def test_no_field_of_a_chat_is_overlooked() -> None:
    known = {*HONOURED, *HONOURED_WITH, *BY_THE_ROUTE, *REPORTED, *REFUSED}
    assert set(get_type_hints(chat_params.CompletionCreateParamsStreaming)) == known
    assert known <= set(ChatRequest.model_fields)


@pytest.mark.parametrize("name", HONOURED)
def test_a_field_is_honoured(name: str) -> None:
    made, plain = _jobs(**{name: HONOURED[name]}), _jobs()
    assert [_bare(job) for job in made] != [_bare(job) for job in plain]
    assert made[0].submission.warnings == ()


@pytest.mark.parametrize("name", HONOURED_WITH)
def test_a_field_is_honoured_beside_another(name: str) -> None:
    value, other = HONOURED_WITH[name]
    (made,), (plain,) = _jobs(**{name: value}, **other), _jobs(**other)
    assert _bare(made) != _bare(plain)
    assert made.submission.warnings == ()


@pytest.mark.parametrize("name", REPORTED)
def test_a_field_without_effect_is_reported(name: str) -> None:
    (made,), (plain,) = _jobs(**{name: REPORTED[name]}), _jobs()
    assert _bare(made) == _bare(plain)
    (warning,) = made.submission.warnings
    assert name in warning


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_would_change_the_answer_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        _jobs(**{name: REFUSED[name]})
    assert refused.value.problem.param == name


@pytest.mark.parametrize(
    ("effort", "thinks", "budget"),
    [
        ("none", False, None),
        ("minimal", True, 64),
        ("low", True, 256),
        ("medium", True, None),
        ("high", True, None),
        ("xhigh", True, None),
        (None, None, None),
    ],
)
def test_effort_is_whether_and_how_long_it_thinks(
    effort: str | None, thinks: bool | None, budget: int | None
) -> None:
    (job,) = _jobs(reasoning_effort=effort)
    assert (job.thinking.is_on, job.thinking.budget_tokens) == (thinks, budget)
    assert job.messages == (Message("user", "x"),)


def test_no_field_of_a_completion_is_overlooked() -> None:
    known = set(get_type_hints(completion_create_params.CompletionCreateParamsStreaming))
    assert known <= set(CompletionRequest.model_fields)
    body = {"model": "tiny-chat", "prompt": "x", "stream_options": {"include_usage": True}}
    (job,) = completion_jobs(validated(CompletionRequest, body), TINY, TERMS, SETTINGS)
    assert "stream_options" in job.submission.warnings[0]


def test_what_would_only_fail_again_is_not_asked_again_by_itself() -> None:
    """OpenAI's SDKs repeat 409 and 5xx: left to them is only what may be otherwise a moment later."""
    repeated = {
        code: form for code, form in FORMS.items() if form.auto_retry is None and form.status in (409, 504)
    }
    assert all(code.endswith("_not_ready") and form.retry_after_s for code, form in repeated.items())
    assert FORMS["deadline_exceeded"].status == 504
