"""A chat job told in Ollama's words: one JSON object a line, or one object. Durations are nanoseconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from api.errors import Problem, of_end
from tasks.events import (
    Cancelled,
    Expired,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCall,
)
from tasks.jobs import Call, ChatJob, FinishReason
from tasks.journal import Entry
from tasks.made import Made

NDJSON = "application/x-ndjson"

Say = Callable[[str, str, list[dict[str, Any]]], dict[str, Any]]
"""(text, thoughts, calls) as the fields of one object: chat and generate have different ones."""


def as_message(text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """``/api/chat``."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def as_response(text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """``/api/generate``, where there are no tools."""
    return {"response": text, "thinking": thinking} if thinking else {"response": text}


@dataclass(slots=True)
class Answer:
    """What every line has in common, and the clock of the whole. ``name`` is how the client calls the model.

    ``is_warm_up``: what the job makes is not told, only that the model is there.
    """

    job: ChatJob
    name: str
    say: Say
    is_warm_up: bool = False
    began_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None

    def started(self, _: Started) -> None:
        self.started_s = self.started_s or time.monotonic()

    def line(self, fields: dict[str, Any], *, done: bool = False, **more: Any) -> dict[str, Any]:
        return {"model": self.name, "created_at": _now(), **fields, "done": done, **more}

    def whole(self, made: Made, end: Finished) -> dict[str, Any]:
        if self.is_warm_up:
            return self.last(self.say("", "", []), end)
        calls = [call_out(index, call) for index, call in enumerate(made.calls)]
        return self.last(self.say(made.text, made.reasoning, calls), end)

    def last(self, fields: dict[str, Any], end: Finished) -> dict[str, Any]:
        """The object that ends the answer: why it ended, and what it took.

        ``total_duration`` includes the time in the queue, which ``queue_duration`` tells by itself.
        """
        now_s = time.monotonic()
        usage, timings = end.usage, end.timings
        return self.line(
            fields,
            done=True,
            done_reason="load" if self.is_warm_up else _reason(end.reason),
            total_duration=_ns((now_s - self.began_s) * 1000),
            queue_duration=_ns(((self.started_s or now_s) - self.began_s) * 1000),
            load_duration=_ns(timings.load_ms),
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=_ns(timings.prefill_ms),
            eval_count=usage.completion_tokens,
            eval_duration=_ns(timings.decode_ms),
            job_id=self.job.submission.id,
            warnings=[*self.job.submission.warnings, *end.warnings],
        )


def farewell(name: str, say: Say) -> dict[str, Any]:
    """What is said when a model was taken off the card."""
    said = say("", "", [])
    return {"model": name, "created_at": _now(), **said, "done": True, "done_reason": "unload"}


class LineVoice:
    """``stream.Voice`` of Ollama. There are no comments in it: an aside is a line that adds no text."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def tell(self, entry: Entry) -> bytes:
        event, answer = entry.event, self._answer
        if isinstance(event, Started):
            answer.started(event)
        elif isinstance(event, Finished):
            return _line(answer.last(answer.say("", "", []), event))
        elif isinstance(event, Failed | Cancelled | Expired):
            return self.fail(of_end(event))
        elif isinstance(event, TextDelta | ReasoningDelta | ToolCall) and not answer.is_warm_up:
            return self._delta(event)
        return b""

    def _delta(self, event: TextDelta | ReasoningDelta | ToolCall) -> bytes:
        say = self._answer.say
        if isinstance(event, ToolCall):
            call = Call(event.id, event.name, event.arguments)
            return _line(self._answer.line(say("", "", [call_out(event.index, call)])))
        if not event.text:
            return b""
        is_thought = isinstance(event, ReasoningDelta)
        fields = say("", event.text, []) if is_thought else say(event.text, "", [])
        return _line(self._answer.line(fields))

    def fail(self, problem: Problem) -> bytes:
        return _line({"error": problem.message})

    def aside(self, text: str) -> bytes:
        return _line(self._answer.line(self._answer.say("", "", []), status=text))


def call_out(index: int, call: Call) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": json.loads(call.arguments)}
    return {"id": call.id, "function": function}


def _reason(reason: FinishReason) -> str:
    """Ollama tells of calls by the calls alone."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
