"""Steering: which queues the worker consumes now, in order. Pure.

The gate asks it what to do, the forecast what will be done: one rule, so that what is told comes true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.jobs import JobClass, QueueName, queue_name
from tasks.pauses import is_paused

LEAST_BOUND_MS = 60_000.0
"""A model with work is passed over for at least so long before others are unloaded for it …"""
BATCH_BOUND_MS = 600_000.0
"""… and for so long when only batch jobs wait for it."""

_PLACES: Mapping[str, int] = {job_class.value: place for place, job_class in enumerate(JobClass)}
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Facts:
    """What steering looks at. Times are wall-clock milliseconds, names those of queues or of models.

    ``held`` is why nothing may run now, None when the card may work. ``residents`` are the models on the
    card, the least recently used first; None: nobody has told, and every model counts as being there.
    ``left_ms``: when a model was last replaced, that is, when what took its place was ready. ``load_ms``:
    what loading takes, ``needs_bytes``: what it needs of the card's ``capacity_bytes``. ``pinned``: models
    that make no room for others.
    """

    queues: frozenset[QueueName]
    paused: frozenset[str] = frozenset()
    held: str | None = None
    oldest_ready_ms: Mapping[str, int] = field(default_factory=dict)
    now_ms: float = 0.0
    residents: tuple[str, ...] | None = None
    left_ms: Mapping[str, float] = field(default_factory=dict)
    load_ms: Mapping[str, float] = field(default_factory=dict)
    needs_bytes: Mapping[str, int] = field(default_factory=dict)
    capacity_bytes: int = 0
    pinned: frozenset[str] = frozenset()


def level(facts: Facts) -> tuple[QueueName, ...]:
    """The queues to consume, first served first; empty means held.

    Models at hand come first: those on the card, and those that fit beside them. Another model comes instead
    of them when it was passed over for longer than its bound, and behind them when none of them has work.
    Classes come in their order of service; within a class the queue whose job has waited longest comes first,
    so that one busy model cannot starve its neighbour. Idle queues follow, by name.
    """
    if facts.held is not None:
        return ()
    served = (name for name in facts.queues if not is_paused(name, facts.paused))
    order = sorted(served, key=lambda name: _rank(name, facts.oldest_ready_ms))
    near = [name for name in order if is_at_hand(model_of(name), facts)]
    far = [name for name in order if name not in near]
    overdue = _most_overdue(far, facts)
    if overdue is not None:
        return tuple(name for name in order if model_of(name) == overdue)
    if any(name in facts.oldest_ready_ms for name in near):
        return tuple(near)
    return tuple(near + far)


def is_at_hand(model: str, facts: Facts) -> bool:
    """Whether a job of this model makes nothing else leave the card."""
    residents = facts.residents
    if residents is None or model in residents or model not in facts.needs_bytes:
        return True
    return _used_bytes(residents, facts) + facts.needs_bytes[model] <= facts.capacity_bytes


def after_loading(model: str, facts: Facts) -> tuple[str, ...]:
    """The residents once this model has been brought and used, the least recently used first."""
    residents = tuple(name for name in facts.residents or () if name != model)
    if model not in (facts.residents or ()):
        need = facts.needs_bytes.get(model, 0)
        while _used_bytes(residents, facts) + need > facts.capacity_bytes:
            oldest = next((name for name in residents if name not in facts.pinned), None)
            if oldest is None:
                break
            residents = tuple(name for name in residents if name != oldest)
    return (*residents, model)


def due_ms(queue: str, facts: Facts) -> float:
    """When the model of a waiting queue will have been passed over for as long as it may be.

    It counts from when its oldest job became ready, or it last left the card, whichever is later. By plain
    age every model would be overdue in a long queue, and each job would be a swap.
    """
    since_ms = max(float(facts.oldest_ready_ms[queue]), facts.left_ms.get(model_of(queue), 0.0))
    return since_ms + bound_ms(queue, facts)


def bound_ms(queue: str, facts: Facts) -> float:
    """How long a model may be passed over: a swap should not cost more than what waited for it."""
    back_ms = sum(facts.load_ms.get(name, 0.0) for name in facts.residents or ())
    least_ms = BATCH_BOUND_MS if _class_of(queue) == JobClass.BATCH else LEAST_BOUND_MS
    return max(least_ms, facts.load_ms.get(model_of(queue), 0.0) + back_ms)


def queues_of(models: Iterable[str], seen: Iterable[str]) -> frozenset[QueueName]:
    """Every queue a job may stand in: one per class for each model, and those that have ever held a job."""
    planned = {queue_name(job_class, model) for model in models for job_class in JobClass}
    return frozenset(planned | {QueueName(name) for name in seen if _class_of(name) in _PLACES})


def model_of(queue: str) -> str:
    return queue.partition(".")[2]


def place_of_class(queue: str) -> int:
    """Where the queue's class stands in the order of service, from 0."""
    return _PLACES.get(_class_of(queue), len(_PLACES))


def _most_overdue(queues: Iterable[QueueName], facts: Facts) -> str | None:
    """The model that was due first; None when none is."""
    due = [(due_ms(name, facts), model_of(name)) for name in queues if name in facts.oldest_ready_ms]
    first_ms, model = min(due, default=(_NEVER, ""))
    return model if first_ms <= facts.now_ms else None


def _used_bytes(residents: Iterable[str], facts: Facts) -> int:
    return sum(facts.needs_bytes.get(name, 0) for name in residents)


def _rank(name: str, oldest_ready_ms: Mapping[str, int]) -> tuple[int, float, str]:
    return place_of_class(name), oldest_ready_ms.get(name, _NEVER), name


def _class_of(name: str) -> str:
    return name.partition(".")[0]
