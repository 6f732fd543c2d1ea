"""A response's events as server-sent events."""

from __future__ import annotations

import json
from typing import Any

from api.context import Context
from api.errors import Problem, Refusal
from api.openai.responses.kept import at_ms, replay
from api.openai.responses.telling import Telling
from api.stream import SseVoice, comment
from tasks import records
from tasks.events import Finished, is_terminal
from tasks.jobs import ChatJob
from tasks.journal import Entry


class ResponseVoice(SseVoice):
    """``stream.Voice`` of Responses. The journal is read from its beginning, so that the numbers are those of
    every other reader; what its reader knows, up to and with the event ``after``, is left out.
    """

    def __init__(self, shared: Context, job: ChatJob, after: int | None = None) -> None:
        self._shared = shared
        self._job = job
        self._after = -1 if after is None else after
        self._telling = Telling(job)

    async def tell(self, entry: Entry) -> bytes:
        if is_terminal(entry.event) and not self._telling.has_begun:
            told = await self._late()
        else:
            told = self._telling.tell(entry.event, await at_ms(self._shared, self._job, entry))
        words = b"".join(_sent(each) for each in told if each["sequence_number"] > self._after)
        warnings = entry.event.warnings if isinstance(entry.event, Finished) else ()
        return b"".join(comment(f"warning {each}") for each in warnings) + words

    def fail(self, problem: Problem) -> bytes:
        """The number is that of the last event: it is no part of the response, and who goes on behind it
        misses nothing. The SDK raises what it finds under ``error``.
        """
        fault = problem.envelope()["error"]
        number = max(self._telling.count - 1, self._after, 0)
        plain = {name: fault[name] for name in ("code", "message", "param")}
        return _sent({"type": "error", "sequence_number": number, **plain, "error": fault})

    async def _late(self) -> list[dict[str, Any]]:
        """All the events of a response whose journal is gone."""
        if self._after >= 0:
            raise stream_gone()
        record = await records.fetch(self._shared.redis, self._job.submission.id)
        return [] if record is None else replay(self._telling, record)


def stream_gone() -> Refusal:
    return Refusal(
        "stream_gone",
        "the events of this response are no longer kept one by one; leave out 'starting_after' to be told it "
        "anew, or 'stream' to have it whole",
        "starting_after",
    )


def _sent(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
