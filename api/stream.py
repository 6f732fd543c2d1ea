"""Streams out of a job's journal, for any dialect.

A stream is the journal's entries in a dialect's words (its ``Voice``), with asides in between for what is no
event: the place in the queue, a hold, loading, and a sign of life where nothing happens. As server-sent
events they are comment lines, which every client skips, the official OpenAI SDK included, when they are told
as ``comment`` does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.board import CardFacts
from api.context import Context
from api.errors import Problem, shutting_down
from api.follow import Chorus, Following, Part, place_lately
from api.request_id import problem_of
from tasks import keys, pauses
from tasks.board import Hold
from tasks.events import Held, Loading, Queued, Started, is_terminal
from tasks.jobs import JobId
from tasks.journal import Entry

log = logging.getLogger("hearth.api")

KEEP_ALIVE_S = 10.0
"""Proxies cut connections that say nothing for a minute."""
POSITION_S = 5.0
"""The place in the queue is told this often even when it has not changed."""
TICK_S = 1.0

SSE = "text/event-stream; charset=utf-8"

_HEADERS = {"x-accel-buffering": "no"}  # nginx would collect the events otherwise


class Voice(Protocol):
    """One dialect's way of telling a journal."""

    async def tell(self, entry: Entry) -> bytes:
        """The bytes for one entry; none when the dialect has no words for it."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """The bytes for a stream that cannot go on, although its job may."""
        ...

    def aside(self, text: str) -> bytes:
        """The bytes for what is no event and may be skipped."""
        ...


def comment(text: str) -> bytes:
    """A line that SSE clients skip. What could end the line is left out.

    No empty line follows: behind an ``id:`` OpenAI's Python SDK (3.54) takes one for the end of an event
    without data, and fails to parse it.
    """
    return b": " + " ".join(text.split()).encode() + b"\n"


class SseVoice:
    """What all voices that tell server-sent events have in common."""

    def aside(self, text: str) -> bytes:
        return comment(text)


def data_line(json_text: bytes) -> bytes:
    """An event's data. JSON escapes line feeds; some clients break lines at three more characters."""
    for raw, escaped in (
        (b"\xe2\x80\xa8", b"\\u2028"),
        (b"\xe2\x80\xa9", b"\\u2029"),
        (b"\xc2\x85", b"\\u0085"),
    ):
        if raw in json_text:
            json_text = json_text.replace(raw, escaped)
    return b"data: " + json_text + b"\n\n"


class JournalStream(Response):
    """Answers with ``entries`` as they come, until they end, the client leaves, or the process does."""

    def __init__(
        self,
        context: Context,
        job_id: JobId,
        entries: Following | Chorus,
        voice: Voice,
        *,
        request_id: str,
        headers: Mapping[str, str],
        place: int | None,
        media_type: str = SSE,
    ) -> None:
        """``place`` is the job's place in the queue just now, if it was asked for."""
        super().__init__(headers={**_HEADERS, "content-type": media_type, **headers, "x-job-id": job_id})
        # A length would end the stream before it began.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._context = context
        self._entries = entries
        self._voice = voice
        self._request_id = request_id
        self._waiting = _Waiting(context, job_id, place, voice)
        self._said_s = time.monotonic()
        self._final = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._send = send
        left = self._context.closing.waiter()
        telling = asyncio.create_task(self._tell())
        gone = asyncio.create_task(until_gone(receive))
        attending = asyncio.create_task(self._attend())
        try:
            pending: set[asyncio.Future[None]] = {telling, gone, left}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            attending.cancel()
            if not gone.done():
                await self._say(self._last_words(telling), more=False)
        finally:
            for waiter in (telling, gone, attending, left):
                waiter.cancel()
            await asyncio.gather(telling, gone, attending, return_exceptions=True)

    def _last_words(self, telling: asyncio.Task[None]) -> bytes:
        if not telling.done():
            return self._voice.fail(shutting_down())
        error = telling.exception()
        if isinstance(error, Exception):
            return self._voice.fail(problem_of(error, self._request_id))
        return self._final

    async def _tell(self) -> None:
        try:
            async for entry in self._entries:
                self._waiting.note(entry)
                words = await self._voice.tell(entry) or self._aside(entry)
                if self._entries.is_last(entry):
                    # The end of the job and the end of the body leave in one write.
                    self._final = words
                    return
                await self._say(words)
        finally:
            await self._entries.aclose()

    async def _attend(self) -> None:
        """Everything that is said because time has passed."""
        await self._say(self._waiting.first_words())
        # Readers that came together would ask Redis together, once a second, and hold up everybody's tokens.
        await asyncio.sleep(random.uniform(0.0, TICK_S))
        while True:
            await asyncio.sleep(TICK_S)
            try:
                words = await self._waiting.words()
            except Exception as error:  # the journal's own loop tells of a Redis that is away, when it must
                log.debug("%s: no news of the queue: %s", self._request_id, error)
                words = b""
            if not words and time.monotonic() - self._said_s >= KEEP_ALIVE_S:
                words = self._voice.aside("keep-alive")
            await self._say(words)

    def _aside(self, entry: Entry) -> bytes:
        """Events that a dialect has no words for."""
        text = _news(entry)
        return self._voice.aside(text) if text else b""

    async def _say(self, words: bytes, *, more: bool = True) -> None:
        if not words and more:
            return
        self._said_s = time.monotonic()
        await self._send({"type": "http.response.body", "body": words, "more_body": more})


class _Waiting:
    """What a client hears while its job waits: its place, and why nothing moves."""

    def __init__(self, context: Context, job_id: JobId, first: int | None, voice: Voice) -> None:
        self._context = context
        self._job_id = job_id
        self._voice = voice
        self._is_queued = True
        self._first = first
        self._queue: str | None = None
        self._told = b""
        self._told_s = time.monotonic()

    def note(self, entry: Entry) -> None:
        """Of several jobs the first one's wait is told."""
        if isinstance(entry, Part) and entry.choice:
            return
        if isinstance(entry.event, Queued):
            self._is_queued = True
        elif isinstance(entry.event, Started) or is_terminal(entry.event):
            self._is_queued = False

    def first_words(self) -> bytes:
        """At once when others stand before this job; one that is next hears nothing unless it has to wait."""
        if self._first is None or self._first <= 1 or not self._is_queued:
            return b""
        return self._remember(self._place(self._first))

    async def words(self) -> bytes:
        if not self._is_queued:
            return b""
        place = await place_lately(self._context, self._job_id)
        words = b"" if place is None else self._place(place)
        held = await self._hold()
        if held is not None:
            words += self._voice.aside(f"held reason={held.reason} {held.message}")
        # The job may have begun while we asked.
        if not self._is_queued or (words == self._told and time.monotonic() - self._told_s < POSITION_S):
            return b""
        return self._remember(words)

    def _place(self, position: int) -> bytes:
        return self._voice.aside(f"queued position={position}")

    async def _hold(self) -> Hold | None:
        """Why the job is not begun: all cards rest, or an operator has paused its queue."""
        card = resting(await self._context.board.cards())
        if card is not None:
            return card.hold
        stopped = await self._context.board.pauses()
        if not stopped:
            return None
        if self._queue is None:  # it never changes
            found = await self._context.redis.hget(keys.job(self._job_id), "queue")
            self._queue = found.decode() if isinstance(found, bytes) else None
        pause = None if self._queue is None else pauses.over(self._queue, stopped)
        return None if pause is None else pause.hold

    def _remember(self, words: bytes) -> bytes:
        self._told, self._told_s = words, time.monotonic()
        return words


def resting(cards: tuple[CardFacts, ...]) -> CardFacts | None:
    """A card that is held, if all of them are; else None."""
    if cards and all(card.hold is not None for card in cards):
        return cards[0]
    return None


def _news(entry: Entry) -> str:
    event = entry.event
    if isinstance(event, Loading):
        return f"loading {event.done}/{event.total}"
    if isinstance(event, Held):
        return f"held reason={event.reason} {event.message}"
    return "resumed" if event.type == "resumed" else ""


async def until_gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
