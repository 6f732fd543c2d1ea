"""From a journal to the events of a response: a pure fold, the same for every reader.

Journalled events never change, and each of them becomes the same events here whoever reads it; so the numbers
of a response's events are those of a count from the beginning of its journal, and a reader who knows one of
them can go on behind it, in another process too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from api.openai.responses import body, items
from api.openai.responses.body import End
from api.openai.responses.ids import Prefix, item_id
from api.openai.responses.items import Item, Status
from tasks.events import (
    Event,
    Queued,
    ReasoningDelta,
    Started,
    Terminal,
    TextDelta,
    TokenLogprob,
    ToolCall,
)
from tasks.jobs import Call, ChatJob

Told = dict[str, Any]
"""An event as it is sent: ``type``, and what belongs to it."""

_LAST = {"completed": "response.completed", "incomplete": "response.incomplete"}


class Telling:
    """One response's events as its journal is read, and the response as far as it has come."""

    def __init__(self, job: ChatJob) -> None:
        self._job = job
        self._fields = body.told_once(job)
        self._sums_up = self._fields["reasoning"]["summary"] is not None
        self._status = body.QUEUED
        self._done: list[Item] = []
        self._open: _Thoughts | _Words | None = None
        self._counts: Counter[Prefix] = Counter()
        self._end: tuple[End, int] | None = None
        self.count = 0
        """How many events were told: the next one's ``sequence_number``."""

    @property
    def has_begun(self) -> bool:
        return self.count > 0

    def tell(self, event: Event, at_ms: int) -> list[Told]:
        """The events that one journalled at ``at_ms`` becomes; none when Responses have no words for it."""
        told = []
        for each in self._events(event, at_ms):
            # The two names that every reader looks for first.
            told.append({"type": each.pop("type"), "sequence_number": self.count, **each})
            self.count += 1
        return told

    def response(self) -> dict[str, Any]:
        """The response now."""
        output = [*self._done, *([] if self._open is None else [self._open.item("in_progress")])]
        if self._end is not None:
            return {**self._fields, **body.at_the_end(self._end[0], output, self._end[1])}
        return {**self._fields, **body.so_far(self._status, output)}

    def _events(self, event: Event, at_ms: int) -> Iterator[Told]:
        if isinstance(event, Queued):
            if not self.has_begun:
                yield {"type": "response.created", "response": self.response()}
                yield {"type": "response.queued", "response": self.response()}
        elif isinstance(event, Started):
            if self._status == body.QUEUED:
                self._status = body.IN_PROGRESS
                yield {"type": "response.in_progress", "response": self.response()}
        elif isinstance(event, ReasoningDelta) and event.text:
            yield from self._say(_Thoughts, event.text, ())
        elif isinstance(event, TextDelta) and event.text:
            yield from self._say(_Words, event.text, event.logprobs)
        elif isinstance(event, ToolCall):
            yield from self._close("completed")
            yield from self._called(Call(event.id, event.name, event.arguments))
        elif isinstance(event, Terminal):
            end = End.of(event)
            yield from self._close("completed" if end.status == "completed" else "incomplete")
            self._end = (end, at_ms)
            yield {"type": _LAST.get(end.status, "response.failed"), "response": self.response()}

    def _say(
        self, kind: type[_Thoughts | _Words], text: str, scores: tuple[TokenLogprob, ...]
    ) -> Iterator[Told]:
        if not isinstance(self._open, kind):
            yield from self._close("completed")
            yield from self._begin(kind)
        if self._open is not None:
            yield self._open.add(text, scores)

    def _begin(self, kind: type[_Thoughts | _Words]) -> Iterator[Told]:
        at = len(self._done)
        if kind is _Thoughts:
            self._open = _Thoughts(self._new_id("rs"), at, self._sums_up)
        else:
            self._open = _Words(self._new_id("msg"), at)
        yield from self._open.begin()

    def _new_id(self, prefix: Prefix) -> str:
        self._counts[prefix] += 1
        return item_id(prefix, self._job.submission.id, "o", self._counts[prefix] - 1)

    def _close(self, status: Status) -> Iterator[Told]:
        if self._open is None:
            return
        yield from self._open.end(status)
        self._done.append(self._open.item(status))
        self._open = None

    def _called(self, call: Call) -> Iterator[Told]:
        """The journal has calls whole: so are their arguments here."""
        name, at = self._new_id("fc"), len(self._done)
        place = {"item_id": name, "output_index": at}
        done = {"id": name, **items.called(call, call.arguments, "completed")}
        yield {
            "type": "response.output_item.added",
            "output_index": at,
            "item": {"id": name, **items.called(call, "", "in_progress")},
        }
        head = "response.function_call_arguments"
        yield {"type": f"{head}.delta", **place, "delta": call.arguments}
        yield {"type": f"{head}.done", **place, "name": call.name, "arguments": call.arguments}
        yield {"type": "response.output_item.done", "output_index": at, "item": done}
        self._done.append(done)


@dataclass(slots=True)
class _Words:
    """A message while it is spoken."""

    id: str
    at: int
    _texts: list[str] = field(default_factory=list)
    _scores: list[TokenLogprob] = field(default_factory=list)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.at, "content_index": 0}

    def begin(self) -> Iterator[Told]:
        item = {"id": self.id, **items.spoken([], "in_progress")}
        yield {"type": "response.output_item.added", "output_index": self.at, "item": item}
        yield {"type": "response.content_part.added", **self._place, "part": items.text_part("", ())}

    def add(self, text: str, scores: tuple[TokenLogprob, ...]) -> Told:
        self._texts.append(text)
        self._scores.extend(scores)
        told = {"delta": text, "logprobs": items.scores_of(scores)}
        return {"type": "response.output_text.delta", **self._place, **told}

    def end(self, status: Status) -> Iterator[Told]:
        part = items.text_part("".join(self._texts), self._scores)
        told = {"text": part["text"], "logprobs": part["logprobs"]}
        yield {"type": "response.output_text.done", **self._place, **told}
        yield {"type": "response.content_part.done", **self._place, "part": part}
        yield {"type": "response.output_item.done", "output_index": self.at, "item": self.item(status)}

    def item(self, status: Status) -> Item:
        part = items.text_part("".join(self._texts), self._scores)
        return {"id": self.id, **items.spoken([part], status)}


@dataclass(slots=True)
class _Thoughts:
    """Thoughts while they are told: as they are, or under the name of a summary."""

    id: str
    at: int
    sums_up: bool
    _texts: list[str] = field(default_factory=list)

    PART: ClassVar = {False: "response.content_part", True: "response.reasoning_summary_part"}
    TEXT: ClassVar = {False: "response.reasoning_text", True: "response.reasoning_summary_text"}

    @property
    def _place(self) -> dict[str, Any]:
        index = "summary_index" if self.sums_up else "content_index"
        return {"item_id": self.id, "output_index": self.at, index: 0}

    def _part(self, text: str) -> Item:
        return items.thought_part(text, as_summary=self.sums_up)

    def begin(self) -> Iterator[Told]:
        item = {"id": self.id, **items.reasoning(None, "in_progress", as_summary=self.sums_up)}
        yield {"type": "response.output_item.added", "output_index": self.at, "item": item}
        yield {"type": f"{self.PART[self.sums_up]}.added", **self._place, "part": self._part("")}

    def add(self, text: str, scores: tuple[TokenLogprob, ...]) -> Told:
        self._texts.append(text)
        return {"type": f"{self.TEXT[self.sums_up]}.delta", **self._place, "delta": text}

    def end(self, status: Status) -> Iterator[Told]:
        text = "".join(self._texts)
        yield {"type": f"{self.TEXT[self.sums_up]}.done", **self._place, "text": text}
        yield {"type": f"{self.PART[self.sums_up]}.done", **self._place, "part": self._part(text)}
        yield {"type": "response.output_item.done", "output_index": self.at, "item": self.item(status)}

    def item(self, status: Status) -> Item:
        text = "".join(self._texts)
        return {"id": self.id, **items.reasoning(text, status, as_summary=self.sums_up)}
