"""The response object itself: what the request said, and how far the answer has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.errors import Problem, of_end
from api.openai.responses.ids import response_id
from api.openai.responses.names import FIXED, renamed
from api.openai.tiers import tier_of
from tasks.events import Cancelled, Expired, Failed, Finished, Terminal, Usage
from tasks.jobs import AsResponse, ChatJob, FinishReason, ToolChoice

QUEUED, IN_PROGRESS = "queued", "in_progress"


@dataclass(frozen=True, slots=True)
class End:
    """How a response ended, in its own words."""

    status: str
    usage: Usage | None = None
    problem: Problem | None = None
    is_cut: bool = False

    @classmethod
    def of(cls, event: Terminal) -> End:
        if isinstance(event, Finished):
            is_cut = event.reason is FinishReason.LENGTH
            return cls("incomplete" if is_cut else "completed", event.usage, is_cut=is_cut)
        usage = event.usage if isinstance(event, Cancelled) else None
        return cls("cancelled" if isinstance(event, Cancelled) else "failed", usage, problem_of_end(event))


def problem_of_end(event: Failed | Cancelled | Expired) -> Problem:
    """As ``api.errors.of_end``; a field goes by the name it has here."""
    problem = of_end(event)
    return Problem(problem.code, problem.message, renamed(problem.param, FIXED))


def terms_of(job: ChatJob) -> AsResponse:
    if job.response is None:
        raise ValueError(f"the job {job.submission.id} is not a response's. This is a bug.")
    return job.response


def told_once(job: ChatJob) -> dict[str, Any]:
    """Every field that is the same from the beginning to the end."""
    terms, submission, sampling = terms_of(job), job.submission, job.sampling
    return {
        "id": response_id(submission.id),
        "object": "response",
        "created_at": submission.created_at_ms // 1000,
        "background": terms.is_background,
        "instructions": job.messages[0].content if terms.has_instructions else None,
        "max_output_tokens": sampling.max_tokens,
        "max_tool_calls": None,
        "metadata": dict(submission.metadata),
        "model": job.model,
        "parallel_tool_calls": not job.calls_once,
        "previous_response_id": None if terms.previous is None else response_id(terms.previous),
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": tier_of(submission.job_class),
        "store": terms.is_stored,
        "temperature": sampling.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": ToolChoice.AUTO.value,
        "tools": [],
        "top_logprobs": sampling.logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "user": None,
        **terms.said,
    }


def so_far(status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """The other fields, before the end."""
    nothing = dict.fromkeys(("completed_at", "error", "incomplete_details", "usage"))
    return {"status": status, **nothing, "output": output}


def at_the_end(end: End, output: list[dict[str, Any]], at_ms: int) -> dict[str, Any]:
    """The other fields, when it has ended at ``at_ms`` by Redis' clock."""
    return {
        "status": end.status,
        "completed_at": at_ms // 1000 if end.status == "completed" else None,
        "error": None if end.problem is None else fault_of(end.problem),
        "incomplete_details": {"reason": "max_output_tokens"} if end.is_cut else None,
        "usage": None if end.usage is None else usage_of(end.usage),
        "output": output,
    }


def fault_of(problem: Problem) -> dict[str, Any]:
    told: dict[str, Any] = problem.envelope()["error"]
    return told


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.prompt_tokens - usage.cached_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
