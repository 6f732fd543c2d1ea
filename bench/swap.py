"""What steering saves: two models that do not fit the card together, and 200 jobs for them.

A simulation by events over the real steering function: the same jobs come by a Poisson process at 80 % load,
and once more all at the same moment; beside it what serving them first come, first served would do. Each job
is told at its arrival when it will end, by the same forecast that the API tells; how far that was off is the
error of its ETA, as a share of its whole time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.report import Row, arguments, at_most, quantile, tell
from tasks import eta, steering
from tasks.eta import Pace, Waiting
from tasks.jobs import JobClass, QueueName, queue_name
from tasks.steering import Facts, model_of

LOAD_MS = {"small": 20_000.0, "large": 88_000.0}
RUN_MS = (3_000.0, 8_000.0)
"""The card's time for one job: anything between, the same for both."""
LOAD = 0.8
_MEAN_MS = sum(RUN_MS) / 2
_ROOM = 100
"""Each model needs more than half of it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One job to come. ``run_ms`` is known to nobody but the card."""

    id: str
    queue: QueueName
    at_ms: float
    run_ms: float


@dataclass(slots=True)
class Outcome:
    """``passed_over_ms``: how long a model had been passed over, at each swap to it. ``trace``: when which
    model came to the card."""

    swaps: int = 0
    passed_over_ms: list[float] = field(default_factory=list)
    bound_ms: float = 0.0
    eta_errors: list[float] = field(default_factory=list)
    ended_ms: float = 0.0
    trace: list[tuple[float, str]] = field(default_factory=list)


def arrivals(count: int, seed: int, *, burst: bool) -> list[Arrival]:
    draw = random.Random(seed)
    at_ms, found = 0.0, []
    for number in range(count):
        at_ms += 0.0 if burst else draw.expovariate(LOAD / _MEAN_MS)
        queue = queue_name(JobClass.CHAT, draw.choice(tuple(LOAD_MS)))
        found.append(Arrival(f"job_{number}", queue, at_ms, draw.uniform(*RUN_MS)))
    return found


class House:
    """One card, one worker, and the rule that steers it."""

    def __init__(self, jobs: Sequence[Arrival]) -> None:
        self._to_come = list(jobs)
        self._runs = {job.id: job for job in jobs}
        self._waiting: dict[str, list[Waiting]] = {}
        self._told_ms: dict[str, float] = {}
        # Rates are measured: this house has served before.
        self._means: dict[str, float] = {f"chat.{model}": _MEAN_MS for model in LOAD_MS}
        queues = frozenset(queue_name(JobClass.CHAT, model) for model in LOAD_MS)
        needs = dict.fromkeys(LOAD_MS, 60)
        self._facts = Facts(
            queues, residents=("small",), load_ms=LOAD_MS, needs_bytes=needs, capacity_bytes=_ROOM
        )
        self._free_ms = self._expected_free_ms = 0.0
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Serve everything; what came of it."""
        now_ms = 0.0
        while self._to_come or any(self._waiting.values()):
            self._arrive(now_ms)
            served = self._serve(now_ms)
            if served:
                now_ms = self._free_ms
            elif self._to_come:
                now_ms = self._to_come[0].at_ms
        self._outcome.ended_ms = now_ms
        return self._outcome

    def _arrive(self, now_ms: float) -> None:
        while self._to_come and self._to_come[0].at_ms <= now_ms:
            job = self._to_come.pop(0)
            self._waiting.setdefault(job.queue, []).append(Waiting(job.id, job.at_ms))
            if not self._to_come or self._to_come[0].at_ms > job.at_ms:
                self._foretell(job.at_ms)

    def _foretell(self, at_ms: float) -> None:
        """Tell every job that has not been told yet when it will end."""
        facts = replace(self._facts, now_ms=at_ms)
        found = eta.forecast(facts, self._waiting, Pace(self._means), self._busy_until(at_ms))
        for job_id, told in found.items():
            self._told_ms.setdefault(job_id, told.ends_ms)

    def _busy_until(self, at_ms: float) -> float:
        return max(at_ms, self._expected_free_ms) if self._free_ms > at_ms else at_ms

    def _serve(self, now_ms: float) -> bool:
        oldest = {name: int(jobs[0].ready_ms) for name, jobs in self._waiting.items() if jobs}
        self._facts = facts = replace(self._facts, now_ms=now_ms, oldest_ready_ms=oldest)
        queue = next((name for name in steering.level(facts) if name in oldest), None)
        if queue is None:
            return False
        load_ms = self._bring(queue)
        job = self._runs[self._waiting[queue].pop(0).id]
        mean_ms = self._means[queue]
        self._expected_free_ms = now_ms + load_ms + mean_ms
        self._free_ms = now_ms + load_ms + job.run_ms
        self._means[queue] = 0.8 * mean_ms + 0.2 * job.run_ms
        # The jobs that come while it runs are told what is known then.
        self._arrive_while_busy()
        error_ms = abs(self._told_ms[job.id] - self._free_ms)
        self._outcome.eta_errors.append(error_ms / (self._free_ms - job.at_ms))
        return True

    def _arrive_while_busy(self) -> None:
        while self._to_come and self._to_come[0].at_ms < self._free_ms:
            self._arrive(self._to_come[0].at_ms)

    def _bring(self, queue: str) -> float:
        facts, model = self._facts, model_of(queue)
        if facts.residents is None or model in facts.residents:
            return 0.0
        bound_ms = steering.bound_ms(queue, facts)
        since_ms = steering.due_ms(queue, facts) - bound_ms
        self._outcome.swaps += 1
        self._outcome.passed_over_ms.append(facts.now_ms - since_ms)
        self._outcome.bound_ms = max(self._outcome.bound_ms, bound_ms)
        self._outcome.trace.append((facts.now_ms, model))
        self._facts, load_ms = eta.brought(model, facts)
        return load_ms


def first_come(jobs: Sequence[Arrival]) -> int:
    """The swaps of serving in the order of arrival."""
    on_card, swaps = "small", 0
    for job in jobs:
        swaps += model_of(job.queue) != on_card
        on_card = model_of(job.queue)
    return swaps


def figures_of(jobs: Sequence[Arrival], outcome: Outcome) -> dict[str, float]:
    return {
        "swaps": outcome.swaps,
        "fcfs_swaps": first_come(jobs),
        "worst_passed_over_s": round(max(outcome.passed_over_ms, default=0.0) / 1000, 1),
        "bound_s": round(outcome.bound_ms / 1000, 1),
        "longest_job_s": round(max(job.run_ms for job in jobs) / 1000, 1),
        "eta_error_median": round(quantile(outcome.eta_errors, 0.5), 3),
        "hours": round(outcome.ended_ms / 3_600_000, 2),
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    outcomes: dict[str, Outcome] = {}
    for name in ("poisson", "burst"):
        jobs = arrivals(options.jobs, options.seed, burst=name == "burst")
        outcomes[name] = House(jobs).run()
        figures[name] = figures_of(jobs, outcomes[name])
        rows += _rows(name, figures[name])
    picture = tell("swap", rows, figures, as_json=options.json, out=options.out)
    _draw(picture, outcomes)


def _rows(name: str, told: dict[str, float]) -> list[Row]:
    most_swaps = told["fcfs_swaps"] / (5 if name == "burst" else 1)
    longest_s = told["bound_s"] + told["longest_job_s"]
    return [
        at_most(f"{name}: swaps", told["swaps"], "", most_swaps),
        Row(f"{name}: swaps, first come", told["fcfs_swaps"], ""),
        at_most(f"{name}: passed over longest", told["worst_passed_over_s"], "s", longest_s),
        at_most(f"{name}: error of the ETA, median", told["eta_error_median"], "", 0.2),
    ]


def _draw(path: Path, outcomes: dict[str, Outcome]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for row, (name, outcome) in enumerate(outcomes.items()):
        came = [*outcome.trace, (outcome.ended_ms, "")]
        for (begin_ms, model), (end_ms, _) in pairwise(came):
            minutes = (begin_ms / 60_000, (end_ms - begin_ms) / 60_000)
            left.broken_barh([minutes], (row, 0.8), facecolor={"small": "C0", "large": "C1"}[model])
        ordered = sorted(outcome.eta_errors)
        right.plot(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], label=name)
    left.set(title="what is on the card (blue small, orange large)", xlabel="minutes")
    left.set_yticks([row + 0.4 for row in range(len(outcomes))], list(outcomes))
    right.axvline(0.2, color="0.6", linestyle="--", label="target for the median")
    right.set(title="error of the ETA", xlabel="share of the job's whole time", ylabel="share at or below")
    right.set(xlim=(0, 1), ylim=(0, 1))
    right.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
