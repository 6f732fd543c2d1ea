"""What a job has made so far: the sum of a chat's deltas, or the vectors of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from tasks.events import Delta, Embedded, Event, ReasoningDelta, TextDelta, TokenLogprob, ToolCall
from tasks.jobs import Call


@dataclass(slots=True)
class Made:
    """Text, thoughts and calls, and the ids of all tokens they were made of; vectors in their order."""

    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    embedded: list[Embedded] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)
    _thoughts: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        made = cls()
        for event in events:
            made.add(event)
        return made

    @classmethod
    def kept(cls, text: str | None, reasoning: str | None, calls: Iterable[Call]) -> Self:
        """What a record has kept of it: no ids, no probabilities."""
        return cls(list(calls), _texts=[text or ""], _thoughts=[reasoning or ""])

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    def add(self, event: Event) -> None:
        """Count ``event`` in, if it tells of something made."""
        if isinstance(event, TextDelta):
            self._texts.append(event.text)
            self.logprobs.extend(event.logprobs)
        elif isinstance(event, ReasoningDelta):
            self._thoughts.append(event.text)
        elif isinstance(event, ToolCall):
            self.calls.append(Call(event.id, event.name, event.arguments))
        elif isinstance(event, Embedded) and event.index == len(self.embedded):
            self.embedded.append(event)
        if isinstance(event, Delta):
            self.token_ids.extend(event.token_ids)


def joined(deltas: Iterable[TextDelta | ReasoningDelta]) -> list[TextDelta | ReasoningDelta]:
    """The same with neighbours of one kind made one."""
    runs: list[list[TextDelta | ReasoningDelta]] = []
    for delta in deltas:
        if runs and type(runs[-1][0]) is type(delta):
            runs[-1].append(delta)
        else:
            runs.append([delta])
    return [_one(run) for run in runs]


def _one(run: list[TextDelta | ReasoningDelta]) -> TextDelta | ReasoningDelta:
    text = "".join(delta.text for delta in run)
    ids = tuple(token for delta in run for token in delta.token_ids)
    if isinstance(run[0], ReasoningDelta):
        return ReasoningDelta(text, ids)
    scores = (score for delta in run if isinstance(delta, TextDelta) for score in delta.logprobs)
    return TextDelta(text, ids, tuple(scores))
