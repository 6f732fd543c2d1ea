"""A chat job told in OpenAI's words: chunks of a stream, or one body.

Chunks are written by hand: hundreds a second pass here, all alike but for a piece of text.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from api.context import VERSION, Context
from api.errors import Problem, of_end
from tasks import records
from tasks.events import Cancelled, Expired, Failed, Finished, Started, TextDelta, Usage
from tasks.jobs import ChatJob, FinishReason, JobClass, JobId
from tasks.journal import Entry

DONE = b"data: [DONE]\n\n"


class Answer:
    """What all chunks and the whole body have in common; the card is known once the job has started."""

    def __init__(self, context: Context, job: ChatJob) -> None:
        self.job = job
        self._context = context
        self._card = ""

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
            "service_tier": "flex" if submission.job_class is JobClass.BATCH else "default",
        }

    async def late_text(self) -> str:
        """The text of an answer whose journal is gone: the record keeps it longer."""
        record = await records.fetch(self._context.redis, self.job.submission.id)
        return (record.text or "") if record is not None else ""


class ChunkVoice:
    """``stream.Voice`` of chat completions: role, text, finish, usage if asked for, ``[DONE]``."""

    def __init__(self, answer: Answer, *, include_usage: bool) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._head = ""
        self._tail = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._has_text = False

    async def tell(self, entry: Entry) -> bytes:
        event = entry.event
        if isinstance(event, TextDelta):
            return await self._text(event.text, entry.id)
        if isinstance(event, Started):
            self._answer.started(event)
        elif isinstance(event, Finished):
            return await self._finish(event, entry.id)
        elif isinstance(event, Failed | Cancelled | Expired):
            return self.fail(of_end(event))
        return b""

    def fail(self, problem: Problem) -> bytes:
        return b"data: " + json.dumps(problem.envelope()).encode() + b"\n\n"

    async def _text(self, text: str, entry_id: str) -> bytes:
        if not text:
            return b""
        self._has_text = True
        opening = await self._opening()
        chunk = self._chunk(f'{{"content":{quoted(text)}}}', "null")
        return f"{opening}id: {entry_id}\n{chunk}".encode()

    async def _finish(self, event: Finished, entry_id: str) -> bytes:
        late = "" if self._has_text else await self._answer.late_text()
        text = await self._text(late, entry_id)
        opening = await self._opening()
        words = opening + f"id: {entry_id}\n" + self._chunk("{}", quoted(finish_reason(event.reason)))
        if self._include_usage:
            usage = json.dumps(usage_of(event.usage), separators=(",", ":"))
            words += f'{self._head}[],"usage":{usage}}}\n\n'
        return text + words.encode() + DONE

    async def _opening(self) -> str:
        """The chunk that names the role, once, before the first other one."""
        if self._head:
            return ""
        common = await self._answer.common("chat.completion.chunk")
        fields = json.dumps(common, separators=(",", ":"))[:-1]
        self._head = f'data: {fields},"choices":'
        return self._chunk('{"role":"assistant","content":""}', "null")

    def _chunk(self, delta: str, reason: str) -> str:
        choice = f'[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]'
        return f"{self._head}{choice}{self._tail}"


async def body_of(answer: Answer, text: str, end: Finished) -> dict[str, Any]:
    """The whole answer as one body."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(end.reason)}
    return {**await answer.common("chat.completion"), "choices": [choice], "usage": usage_of(end.usage)}


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def finish_reason(reason: FinishReason) -> str:
    return "length" if reason is FinishReason.LENGTH else "stop"


def completion_id(job_id: JobId) -> str:
    return "chatcmpl-" + job_id.removeprefix("job_")
