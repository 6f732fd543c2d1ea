"""What tests drive models with: cards of other traits, signals that are told what to say, jobs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

from hardware.axcl.card import AxclCard
from hardware.card import CardTraits, KvWrite, Prefill
from hardware.virtual.card import VirtualCard
from models.llm.network import Network
from models.llm.plan import MeasuredCosts, plan
from tasks.engines import Verdict
from tasks.errors import Shutdown
from tasks.events import Event, TextDelta
from tasks.jobs import ChatJob, JobClass, Message, Sampling, Submission, new_job_id

Result = TypeVar("Result")


class _Other:
    """A card that says of itself what ``change`` was given."""

    changes: dict[str, Any]
    guard: Scripted | None = None
    """When set, calls are allowed only while these signals know of one."""

    def changed(self, traits: CardTraits) -> CardTraits:
        return replace(traits, **getattr(self, "changes", {}))

    def watch(self) -> None:
        assert self.guard is None or self.guard.in_call

    def change(self, *, kv_write: KvWrite | None = None, prefill: Prefill | None = None) -> Self:
        """Set traits, before anything is loaded."""
        given = {"kv_write": kv_write, "prefill": prefill}
        self.changes = {name: value for name, value in given.items() if value is not None}
        return self


class OtherCard(_Other, VirtualCard):
    @property
    def traits(self) -> CardTraits:
        return self.changed(super().traits)

    def begin(self) -> None:
        super().begin()
        self.watch()


class OtherAxclCard(_Other, AxclCard):
    """Says that it does rows and chunks right, as the virtual card does, unless it is told otherwise."""

    @property
    def traits(self) -> CardTraits:
        return self.changed(replace(super().traits, kv_write=KvWrite.ROW, prefill=Prefill.CHUNK))

    def begin(self) -> None:
        super().begin()
        self.watch()


AnyCard = OtherCard | OtherAxclCard


class UsualCosts(MeasuredCosts):
    """Any chunk takes as long as two steps, whatever the clock says: plans that tests can count on."""

    UNKNOWN_STEPS = 2

    def __init__(self, step_s: float = 0.001) -> None:
        super().__init__(step_s)
        self.known_step_s = step_s

    def step_s(self) -> float:
        return self.known_step_s

    def took(self, group: object, seconds: float) -> None:
        pass


class Scripted:
    """Signals that say ``GO_ON`` until the ``at``-th step, and then ``verdict``; Shutdown is raised."""

    def __init__(self, at: int | None = None, verdict: Verdict | type[Shutdown] = Verdict.GO_ON) -> None:
        self.steps = 0
        self.calls = 0
        self.in_call = False
        self._at = at
        self._verdict = verdict

    def between_steps(self) -> Verdict:
        assert not self.in_call
        self.steps += 1
        if self.steps != self._at:
            return Verdict.GO_ON
        if isinstance(self._verdict, Verdict):
            return self._verdict
        raise self._verdict("told to stop")

    @contextmanager
    def calling_card(self, limit_s: float) -> Iterator[None]:
        assert limit_s > 0
        assert not self.in_call
        self.calls += 1
        self.in_call = True
        try:
            yield
        finally:
            self.in_call = False


def chat(text: str = "hello", /, *, options: dict[str, Any] | None = None, **sampling: Any) -> ChatJob:
    """A job with one user turn."""
    return ChatJob(
        Submission(new_job_id(), "tests", JobClass.CHAT, created_at_ms=0),
        "tests",
        (Message("user", text),),
        Sampling(**{"seed": 1, **sampling}),
        options or {},
    )


def result(steps: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end; what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            returned: Result = end.value
            return returned


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def ids_of(events: Sequence[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TextDelta) for token in event.token_ids]


def prefill(network: Network, prompt: Sequence[int]) -> Any:
    """Bring ``prompt`` into the cache; the logits of what follows."""
    logits = None
    for chunk in plan(network.prefill_groups, 0, len(prompt), UsualCosts()):
        if chunk.group is None:
            logits = network.decoder.forward(prompt[chunk.start], chunk.start)
        else:
            tokens = prompt[chunk.start : chunk.start + chunk.count]
            logits = network.decoder.logits_of(network.prefill.run(tokens, chunk.start, chunk.group))
    return logits
