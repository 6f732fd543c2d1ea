"""Steering: from the facts in Redis to the queues the worker consumes now, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.jobs import JobClass, QueueName, queue_name
from tasks.pauses import is_paused

_PLACES: Mapping[str, int] = {job_class.value: place for place, job_class in enumerate(JobClass)}
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gate read: all queues there are, the oldest waiting job of each, the scopes that are paused.

    ``held`` is why nothing may run now, None when the card may work. ``residents`` are the models on the
    card: not looked at yet, because every model is served as its turn comes.
    """

    queues: frozenset[QueueName]
    paused: frozenset[str] = frozenset()
    held: str | None = None
    oldest_ready_ms: Mapping[str, int] = field(default_factory=dict)
    residents: frozenset[str] = frozenset()


def level(facts: Facts) -> tuple[QueueName, ...]:
    """The queues to consume, first served first; empty means held.

    Classes come in their order of service; within a class the queue whose job has waited longest comes first,
    so that one busy model cannot starve its neighbour. Idle queues follow, by name.
    """
    if facts.held is not None:
        return ()
    served = (name for name in facts.queues if not is_paused(name, facts.paused))
    return tuple(sorted(served, key=lambda name: _rank(name, facts.oldest_ready_ms)))


def queues_of(models: Iterable[str], seen: Iterable[str]) -> frozenset[QueueName]:
    """Every queue a job may stand in: one per class for each model, and those that have ever held a job."""
    planned = {queue_name(job_class, model) for model in models for job_class in JobClass}
    return frozenset(planned | {QueueName(name) for name in seen if _class_of(name) in _PLACES})


def _rank(name: str, oldest_ready_ms: Mapping[str, int]) -> tuple[int, float, str]:
    return _PLACES.get(_class_of(name), len(_PLACES)), oldest_ready_ms.get(name, _NEVER), name


def _class_of(name: str) -> str:
    return name.partition(".")[0]
