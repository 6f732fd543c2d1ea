"""When will a waiting job begin and end? The future, by the rule that will make it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks import steering
from tasks.jobs import JobClass
from tasks.steering import Facts, model_of

GUESS_MS: Mapping[str, float] = {
    JobClass.PRIORITY: 10_000.0,
    JobClass.CHAT: 10_000.0,
    JobClass.IMAGE: 30_000.0,
    JobClass.BATCH: 30_000.0,
}
"""What one job takes as long as none of its queue has been measured."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One queued job. ``ready_ms`` is its place in the order of its queue."""

    id: str
    ready_ms: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a job will be claimed and when it will end; ``place`` is 1 for the next one.

    ``is_measured``: from measured run times, not from a guess.
    """

    starts_ms: float
    ends_ms: float
    place: int
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take. ``run_ms``: the mean of one job, by queue, without loading; what a warm card
    takes longer for is counted by ``duty``, the share of the time it works."""

    run_ms: Mapping[str, float]
    duty: float = 1.0

    def of(self, queue: str) -> float:
        guess_ms = GUESS_MS.get(queue.partition(".")[0], GUESS_MS[JobClass.CHAT])
        return self.run_ms.get(queue, guess_ms) / max(self.duty, 0.05)


def forecast(
    facts: Facts, waiting: Mapping[str, Sequence[Waiting]], pace: Pace, free_ms: float
) -> dict[str, Forecast]:
    """What becomes of every waiting job if nothing more arrives. Nothing of what is held or paused.

    ``free_ms``: when the running job will have ended. ``waiting`` holds each queue in its order.
    """
    taken = dict.fromkeys(waiting, 0)
    found: dict[str, Forecast] = {}
    now_ms = max(free_ms, facts.now_ms)
    while True:
        facts = replace(facts, now_ms=now_ms, oldest_ready_ms=_oldest(waiting, taken))
        queue = next((name for name in steering.level(facts) if name in facts.oldest_ready_ms), None)
        if queue is None:
            return found
        facts, load_ms = brought(model_of(queue), facts)
        run_ms, row = pace.of(queue), _row(queue, waiting[queue][taken[queue] :], facts)
        for job in row:
            ends_ms = now_ms + load_ms + run_ms
            found[job.id] = Forecast(now_ms, ends_ms, len(found) + 1, queue in pace.run_ms)
            now_ms, load_ms = ends_ms, 0.0
            taken[queue] += 1
            if now_ms >= _next_due_ms(facts):
                break


def _row(queue: str, jobs: Sequence[Waiting], facts: Facts) -> Iterator[Waiting]:
    """The jobs of one queue that are served in a row, as long as no other model is overdue.

    Nobody arrives in a forecast, so only what is at hand comes between: a queue of the same class whose job
    waits longer, or one of a better class that stood back for a swap. No need to ask for each of thousands.
    """
    place = steering.place_of_class(queue)
    rivals = {
        name: ready_ms
        for name, ready_ms in facts.oldest_ready_ms.items()
        if name != queue and steering.is_at_hand(model_of(name), facts)
    }
    peers = [ready_ms for name, ready_ms in rivals.items() if steering.place_of_class(name) == place]
    oldest_ms = min(peers, default=math.inf)
    if any(steering.place_of_class(name) < place for name in rivals):
        oldest_ms = -math.inf
    for number, job in enumerate(jobs):
        if number and int(job.ready_ms) >= oldest_ms:
            return
        yield job


def _next_due_ms(facts: Facts) -> float:
    """When the first model that is not at hand becomes overdue."""
    return min(
        (
            steering.due_ms(name, facts)
            for name in facts.oldest_ready_ms
            if not steering.is_at_hand(model_of(name), facts)
        ),
        default=math.inf,
    )


def brought(model: str, facts: Facts) -> tuple[Facts, float]:
    """The facts once the model is on the card, and what loading it took."""
    if facts.residents is None or model not in facts.needs_bytes:
        return facts, 0.0
    residents = steering.after_loading(model, facts)
    load_ms = 0.0 if model in facts.residents else facts.load_ms.get(model, 0.0)
    left = dict.fromkeys(set(facts.residents) - set(residents), facts.now_ms + load_ms)
    return replace(facts, residents=residents, left_ms={**facts.left_ms, **left}), load_ms


def _oldest(waiting: Mapping[str, Sequence[Waiting]], taken: Mapping[str, int]) -> dict[str, int]:
    heads = ((name, jobs[taken[name]]) for name, jobs in waiting.items() if taken[name] < len(jobs))
    return {name: int(job.ready_ms) for name, job in heads}
