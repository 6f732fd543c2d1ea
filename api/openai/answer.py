"""A chat job told in OpenAI's words: chunks of a stream, or one body.

Chunks are written by hand: hundreds a second pass here, all alike but for a piece of text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from api.context import VERSION, Context
from api.errors import Problem, of_end
from api.follow import Part
from api.openai.tiers import tier_of
from api.stream import SseVoice, comment
from tasks import records
from tasks.events import (
    Alternative,
    Cancelled,
    Expired,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from tasks.jobs import Call, ChatJob, FinishReason, JobId
from tasks.journal import Entry
from tasks.made import Made

DONE = b"data: [DONE]\n\n"

Delta = tuple[str, str]
"""What a chunk adds, and the probabilities of its tokens: both as JSON."""


class Answer:
    """What all chunks and the whole body have in common; the card is known once a job has started.

    Of several jobs, one for each choice, the first one gives its name to the whole.
    """

    def __init__(self, context: Context, *jobs: ChatJob) -> None:
        self.jobs = jobs
        self._context = context
        self._card = ""

    @property
    def job(self) -> ChatJob:
        return self.jobs[0]

    @property
    def id(self) -> str:
        """The job's id in OpenAI's form: either leads to the other."""
        return completion_id(self.job.submission.id)

    async def fingerprint(self) -> str:
        """Which software answered, and whether the card was a virtual one."""
        cards = await self._context.board.cards()
        is_virtual = any(card.is_virtual for card in cards if not self._card or card.id == self._card)
        return f"hearth-{VERSION}-virtual" if is_virtual else f"hearth-{VERSION}"

    def started(self, event: Started) -> None:
        self._card = event.card

    async def common(self, kind: str) -> dict[str, Any]:
        submission = self.job.submission
        return {
            "id": self.id,
            "object": kind,
            "created": submission.created_at_ms // 1000,
            "model": self.job.model,
            "system_fingerprint": await self.fingerprint(),
            "service_tier": tier_of(submission.job_class),
        }

    async def late(self, choice: int = 0) -> Made:
        """What an answer was whose journal is gone: the record keeps it longer, but no probabilities."""
        record = await records.fetch(self._context.redis, self.jobs[choice].submission.id)
        return Made() if record is None else Made.kept(record.text, record.reasoning, record.calls)


class ChunkVoice(SseVoice):
    """``stream.Voice`` of chat completions: role, thoughts, text, calls, finish, usage if asked for,
    ``[DONE]``.

    Chunks of several choices come as they are made. Only a stream of one choice can be taken up again: only
    its chunks have an id.
    """

    def __init__(self, answer: Answer, *, include_usage: bool) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._head = ""
        self._tail = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._opened: set[int] = set()
        self._said: set[int] = set()
        self._ends: dict[int, Finished] = {}

    async def tell(self, entry: Entry) -> bytes:
        event = entry.event
        choice = entry.choice if isinstance(entry, Part) else 0
        if isinstance(event, TextDelta | ReasoningDelta | ToolCall):
            return await self._say(_deltas_of(event), entry.id, choice)
        if isinstance(event, Started):
            self._answer.started(event)
        elif isinstance(event, Finished):
            return await self._finish(event, entry.id, choice)
        elif isinstance(event, Failed | Cancelled | Expired):
            return self.fail(of_end(event))
        return b""

    def fail(self, problem: Problem) -> bytes:
        return b"data: " + json.dumps(problem.envelope()).encode() + b"\n\n"

    async def _say(self, deltas: list[Delta], entry_id: str, choice: int) -> bytes:
        """Chunks for what one event tells; the last of them has its id."""
        if not deltas:
            return b""
        self._said.add(choice)
        words = [await self._opening(choice)]
        words += [self._chunk(choice, delta, "null", scores) for delta, scores in deltas]
        words.insert(-1, self._id(entry_id))
        return "".join(words).encode()

    async def _finish(self, event: Finished, entry_id: str, choice: int) -> bytes:
        late = [] if choice in self._said else _deltas_of_all(await self._answer.late(choice))
        text = await self._say(late, entry_id, choice)
        opening = await self._opening(choice)
        words = opening + "".join(comment(f"warning {each}").decode() for each in event.warnings)
        words += self._id(entry_id) + self._chunk(choice, "{}", quoted(finish_reason(event.reason)))
        self._ends[choice] = event
        if len(self._ends) < len(self._answer.jobs):
            return text + words.encode()
        if self._include_usage:
            usage = json.dumps(usage_of(total_usage(self._ends.values())), separators=(",", ":"))
            words += f'{self._head}[],"usage":{usage}}}\n\n'
        return text + words.encode() + DONE

    async def _opening(self, choice: int) -> str:
        """The chunk that names the role, once, before the choice's first other one.

        Those of the choices before it come first: OpenAI's SDK cannot read a stream that begins with another
        choice than the first.
        """
        unopened = [each for each in range(choice + 1) if each not in self._opened]
        if not unopened:
            return ""
        self._opened.update(unopened)
        if not self._head:
            common = await self._answer.common("chat.completion.chunk")
            fields = json.dumps(common, separators=(",", ":"))[:-1]
            self._head = f'data: {fields},"choices":'
        return "".join(self._chunk(each, '{"role":"assistant","content":""}', "null") for each in unopened)

    def _id(self, entry_id: str) -> str:
        return f"id: {entry_id}\n" if len(self._answer.jobs) == 1 else ""

    def _chunk(self, choice: int, delta: str, reason: str, scores: str = "null") -> str:
        told = f'[{{"index":{choice},"delta":{delta},"logprobs":{scores},"finish_reason":{reason}}}]'
        return f"{self._head}{told}{self._tail}"


def _deltas_of(event: TextDelta | ReasoningDelta | ToolCall) -> list[Delta]:
    if isinstance(event, ToolCall):
        call = Call(event.id, event.name, event.arguments)
        return _deltas_of_call(event.index, call)
    if not event.text:
        return []
    if isinstance(event, ReasoningDelta):
        return [(f'{{"reasoning_content":{quoted(event.text)}}}', "null")]
    scores = json.dumps(logprobs_of(event.logprobs), separators=(",", ":")) if event.logprobs else "null"
    return [(f'{{"content":{quoted(event.text)}}}', scores)]


def _deltas_of_call(index: int, call: Call) -> list[Delta]:
    """As OpenAI sends it: which function, and then its arguments."""
    name, arguments = quoted(call.name), quoted(call.arguments)
    head = f'"id":{quoted(call.id)},"type":"function","function":{{"name":{name},"arguments":""}}'
    rest = f'"function":{{"arguments":{arguments}}}'
    return [(f'{{"tool_calls":[{{"index":{index},{part}}}]}}', "null") for part in (head, rest)]


def _deltas_of_all(made: Made) -> list[Delta]:
    told = [*_deltas_of(ReasoningDelta(made.reasoning, ())), *_deltas_of(TextDelta(made.text, ()))]
    return told + [delta for index, call in enumerate(made.calls) for delta in _deltas_of_call(index, call)]


async def body_of(answer: Answer, told: Sequence[tuple[Made, Finished]]) -> dict[str, Any]:
    """The whole answer as one body, a choice for each that was ``told``."""
    choices = [_choice(index, made, end) for index, (made, end) in enumerate(told)]
    usage = usage_of(total_usage([end for _, end in told]))
    return {**await answer.common("chat.completion"), "choices": choices, "usage": usage}


def _choice(index: int, made: Made, end: Finished) -> dict[str, Any]:
    content = made.text if made.text or not made.calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if made.reasoning:
        message["reasoning_content"] = made.reasoning
    if made.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in made.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_of(made.logprobs) if made.logprobs else None,
        "finish_reason": finish_reason(end.reason),
    }


def logprobs_of(scores: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [
        {**_alternative(score.chosen), "top_logprobs": [_alternative(other) for other in score.top]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _alternative(token: Alternative) -> dict[str, Any]:
    return {"token": token.token, "bytes": list(token.token_bytes), "logprob": token.logprob}


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def total_usage(ends: Iterable[Finished]) -> Usage:
    """Of several answers to one prompt: it is counted once, as it is with OpenAI.

    What of it was in the cache is what the first to look found there; the others find all that it left.
    """
    each = [end.usage for end in ends]
    return Usage(
        each[0].prompt_tokens,
        sum(usage.completion_tokens for usage in each),
        min(usage.cached_tokens for usage in each),
        sum(usage.reasoning_tokens for usage in each),
    )


def finish_reason(reason: FinishReason) -> str:
    return reason.value if reason in (FinishReason.LENGTH, FinishReason.TOOL_CALLS) else "stop"


def completion_id(job_id: JobId) -> str:
    return "chatcmpl-" + job_id.removeprefix("job_")
