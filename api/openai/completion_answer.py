"""A raw text gone on with, told in OpenAI's older words: chunks of a stream, or one body."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any

from api.context import Context
from api.errors import Problem, of_end
from api.follow import Part
from api.openai.answer import DONE, Answer, finish_reason, total_usage, usage_of
from api.openai.completion_request import Echoes
from api.stream import SseVoice, comment
from tasks.events import (
    Alternative,
    Cancelled,
    Expired,
    Failed,
    Finished,
    Started,
    TextDelta,
    TokenLogprob,
    Usage,
)
from tasks.jobs import ChatJob, JobId
from tasks.journal import Entry
from tasks.made import Made


class TextAnswer(Answer):
    """What all chunks and the whole body have in common."""

    def __init__(self, context: Context, echoes: Echoes, *jobs: ChatJob) -> None:
        super().__init__(context, *jobs)
        self.echoes = echoes

    @property
    def id(self) -> str:
        return text_id(self.job.submission.id)

    def prefix(self, choice: int) -> str:
        """What of the prompt is told before the choice's own text."""
        raw = self.jobs[choice].raw
        return raw.text if raw is not None and self.echoes.echo else ""

    def usage(self, ends: Sequence[Finished]) -> Usage:
        """Every prompt is counted once, however many choices it has."""
        size = self.echoes.per_prompt
        each = [total_usage(ends[first : first + size]) for first in range(0, len(ends), size)]
        return Usage(
            sum(usage.prompt_tokens for usage in each),
            sum(usage.completion_tokens for usage in each),
            sum(usage.cached_tokens for usage in each),
        )


class TextVoice(SseVoice):
    """``stream.Voice`` of completions: text, finish, usage if asked for, ``[DONE]``."""

    def __init__(self, answer: TextAnswer, *, include_usage: bool) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._common: dict[str, Any] = {}
        self._scores: dict[int, LegacyScores] = {}
        self._said: set[int] = set()
        self._ends: dict[int, Finished] = {}

    async def tell(self, entry: Entry) -> bytes:
        event = entry.event
        choice = entry.choice if isinstance(entry, Part) else 0
        if isinstance(event, TextDelta):
            return await self._say(event, entry.id, choice)
        if isinstance(event, Started):
            self._answer.started(event)
        elif isinstance(event, Finished):
            return await self._finish(event, entry.id, choice)
        elif isinstance(event, Failed | Cancelled | Expired):
            return self.fail(of_end(event))
        return b""

    def fail(self, problem: Problem) -> bytes:
        return b"data: " + json.dumps(problem.envelope()).encode() + b"\n\n"

    async def _say(self, event: TextDelta, entry_id: str, choice: int) -> bytes:
        if not event.text:
            return b""
        text = event.text if choice in self._said else self._answer.prefix(choice) + event.text
        self._said.add(choice)
        scores = self._scores.setdefault(choice, LegacyScores())
        return self._id(entry_id) + await self._chunk(choice, text, scores.told(event.logprobs), None)

    async def _finish(self, event: Finished, entry_id: str, choice: int) -> bytes:
        words = b""
        if choice not in self._said:
            late = TextDelta((await self._answer.late(choice)).text, ())
            words = await self._say(late, entry_id, choice)
            if not words and self._answer.prefix(choice):
                words = await self._chunk(choice, self._answer.prefix(choice), None, None)
        words += b"".join(comment(f"warning {each}") for each in event.warnings)
        words += self._id(entry_id) + await self._chunk(choice, "", None, finish_reason(event.reason))
        self._ends[choice] = event
        if len(self._ends) < len(self._answer.jobs):
            return words
        if self._include_usage:
            usage = usage_of(self._answer.usage([self._ends[each] for each in sorted(self._ends)]))
            words += _line({**self._common, "choices": [], "usage": usage})
        return words + DONE

    async def _chunk(
        self, choice: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> bytes:
        self._common = self._common or await self._answer.common("text_completion")
        told = {"text": text, "index": choice, "logprobs": logprobs, "finish_reason": reason}
        usage = {"usage": None} if self._include_usage else {}
        return _line({**self._common, "choices": [told], **usage})

    def _id(self, entry_id: str) -> bytes:
        return f"id: {entry_id}\n".encode() if len(self._answer.jobs) == 1 else b""


def _line(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


async def text_body(answer: TextAnswer, told: Sequence[tuple[Made, Finished]]) -> dict[str, Any]:
    """The whole answer as one body, a choice for each that was ``told``."""
    choices = [
        {
            "text": answer.prefix(index) + made.text,
            "index": index,
            "logprobs": LegacyScores().told(made.logprobs),
            "finish_reason": finish_reason(end.reason),
        }
        for index, (made, end) in enumerate(told)
    ]
    usage = usage_of(answer.usage([end for _, end in told]))
    return {**await answer.common("text_completion"), "choices": choices, "usage": usage}


class LegacyScores:
    """Probabilities in the older form, piece by piece: it tells where in the text a token begins."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def told(self, scores: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """The next tokens; None when nothing is told of them."""
        if not scores:
            return None
        offsets = []
        for score in scores:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(bytes(score.chosen.token_bytes)))
        return {
            "tokens": [_name(score.chosen) for score in scores],
            "token_logprobs": [score.chosen.logprob for score in scores],
            "top_logprobs": [
                {_name(one): one.logprob for one in (*score.top, score.chosen)} for score in scores
            ],
            "text_offset": offsets,
        }


def _name(token: Alternative) -> str:
    """A token's text; of a part of a character its bytes, so that two of them are told apart."""
    try:
        return bytes(token.token_bytes).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.token_bytes)


def text_id(job_id: JobId) -> str:
    return "cmpl-" + job_id.removeprefix("job_")
