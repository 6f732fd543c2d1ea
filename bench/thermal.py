"""What the governor does to a warm card: six simulated hours of mixed work in rooms of 20, 30 and 40 °C.

The governor's own functions decide, poll by poll, over the virtual card's thermal model; nothing waits. The
same work is done twice: eased, as the worker does it, and by plain hold and release, which works in full
until it is held. Then once more with cards whose constants are drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Row, arguments, at_most, tell
from config.groups import ThermalSettings
from hardware.virtual.thermal import Body, temperature_after
from worker import governor

AMBIENTS_C = (20.0, 30.0, 40.0)
VIRTUAL = Body()
MOST_C = 85.0
"""The card must never be warmer."""
STEP_S = 0.5
OFFERED_LOAD = 0.95
"""The share of the time that the work would take on a card that never rests."""
CHAT_SHARE, CHAT_S, IMAGE_S = 0.7, (2.0, 20.0), (10.0, 60.0)
"""So many of the jobs are chats; between these bounds lies the card's time for one job."""
_DRAWN_IDLE_C, _DRAWN_FULL_C, _DRAWN_CONSTANT_S = (8.0, 18.0), (30.0, 55.0), (60.0, 400.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """A card in a room, and for how long it is watched."""

    ambient_c: float
    body: Body = VIRTUAL
    hours: float = 6.0
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What came of it. ``trace_c``: the temperature at every poll."""

    max_c: float
    jobs: int
    holds: int
    trace_c: list[float]


class Work:
    """Jobs that come at random moments and wait their turn; each needs the card for some seconds."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        chat, image = (sum(bounds) / 2 for bounds in (CHAT_S, IMAGE_S))
        self._pause_s = (CHAT_SHARE * chat + (1 - CHAT_SHARE) * image) / OFFERED_LOAD
        self._next_s = self._random.expovariate(1 / self._pause_s)
        self._left_s: list[float] = []
        self.jobs_done = 0

    def arrive(self, now_s: float) -> None:
        """Take in what has come up to now."""
        while self._next_s <= now_s:
            bounds = CHAT_S if self._random.random() < CHAT_SHARE else IMAGE_S
            self._left_s.append(self._random.uniform(*bounds))
            self._next_s += self._random.expovariate(1 / self._pause_s)

    def do(self, seconds: float) -> float:
        """Work for up to ``seconds``; returns how long there was something to do."""
        left_s = seconds
        while self._left_s and left_s > 0.0:
            done_s = min(left_s, self._left_s[0])
            self._left_s[0] -= done_s
            left_s -= done_s
            if self._left_s[0] <= 1e-9:
                self._left_s.pop(0)
                self.jobs_done += 1
        return seconds - left_s


def simulate(scene: Scene, limits: ThermalSettings, *, eases: bool) -> Outcome:
    """One card through its hours; ``eases`` False ignores everything but holds."""
    noise, work = random.Random(scene.seed + 1), Work(scene.seed)
    temperature_c = scene.ambient_c + scene.body.idle_rise_c
    outcome = Outcome(temperature_c, 0, 0, [])
    duties = _duties(limits, eases=eases)
    next(duties)
    steps_per_poll = round(limits.poll_s / STEP_S)
    was_held = False
    for poll in range(round(scene.hours * 3600 / limits.poll_s)):
        reading_c = temperature_c + noise.uniform(-scene.body.noise_c, scene.body.noise_c)
        duty = duties.send((poll * limits.poll_s, reading_c))
        outcome.holds += duty == 0.0 and not was_held
        was_held = duty == 0.0
        for step in range(steps_per_poll):
            work.arrive(poll * limits.poll_s + step * STEP_S)
            load = work.do(duty * STEP_S) / STEP_S
            temperature_c = temperature_after(
                STEP_S, start_c=temperature_c, ambient_c=scene.ambient_c, load=load, body=scene.body
            )
        outcome.max_c = max(outcome.max_c, temperature_c)
        outcome.trace_c.append(temperature_c)
    outcome.jobs = work.jobs_done
    return outcome


def _duties(limits: ThermalSettings, *, eases: bool) -> Generator[float, tuple[float, float], None]:
    """Sent (seconds, reading), answers with the share of the time the card may work: 0 is held."""
    state, duty = governor.unread(limits), 0.0
    while True:
        at_s, reading_c = yield duty
        state = governor.observe(state, reading_c, at_s=at_s, is_loading=False, limits=limits)
        decision = governor.decide(state, reading_c, limits)
        if isinstance(decision, governor.Hold):
            duty = 0.0
        else:
            duty = decision.duty if eases and isinstance(decision, governor.Ease) else 1.0


def drawn(number: int) -> Scene:
    """A card and a room out of the whole range of what is plausible."""
    draw = random.Random(number)
    body = Body(
        idle_rise_c=draw.uniform(*_DRAWN_IDLE_C),
        full_rise_c=draw.uniform(*_DRAWN_FULL_C),
        time_constant_s=draw.uniform(*_DRAWN_CONSTANT_S),
    )
    return Scene(draw.uniform(10.0, 45.0), body, seed=number)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--hours", type=float, default=6.0, help="simulated hours per room")
    parser.add_argument("--draws", type=int, default=20, help="cards with constants drawn at random")
    options = parser.parse_args()
    limits = ThermalSettings()
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    traces: dict[float, tuple[Outcome, Outcome]] = {}
    for ambient_c in AMBIENTS_C:
        scene = Scene(ambient_c, hours=options.hours)
        eased, plain = (simulate(scene, limits, eases=eases) for eases in (True, False))
        traces[ambient_c] = eased, plain
        figures[f"{ambient_c:g}"] = figures_of(scene, eased, plain)
        rows += _rows(ambient_c, figures[f"{ambient_c:g}"])
    worst_c = max(simulate(drawn(number), limits, eases=True).max_c for number in range(options.draws))
    figures["random"] = {"draws": options.draws, "max_c": round(worst_c, 2)}
    rows.append(at_most(f"{options.draws} random cards: warmest", worst_c, "°C", MOST_C))
    figures["limits"] = limits.model_dump(mode="json")
    picture = tell("thermal", rows, figures, as_json=options.json, out=options.out)
    _draw(picture, limits, traces)


def figures_of(scene: Scene, eased: Outcome, plain: Outcome) -> dict[str, float]:
    """What is told of one room."""
    return {
        "max_c": round(max(eased.max_c, plain.max_c), 2),
        "jobs_per_hour": round(eased.jobs / scene.hours, 1),
        "holds": eased.holds,
        "baseline_jobs_per_hour": round(plain.jobs / scene.hours, 1),
        "baseline_holds": plain.holds,
    }


def _rows(ambient_c: float, told: dict[str, float]) -> list[Row]:
    room = f"{ambient_c:g} °C"
    least, most = told["baseline_jobs_per_hour"], told["baseline_holds"]
    return [
        at_most(f"{room}: warmest", told["max_c"], "°C", MOST_C),
        Row(
            f"{room}: jobs per hour",
            told["jobs_per_hour"],
            "",
            f"≥ {least:g}",
            told["jobs_per_hour"] >= least,
        ),
        Row(f"{room}: holds", told["holds"], "", f"≤ {most:g}", told["holds"] <= most),
    ]


def _draw(path: Path, limits: ThermalSettings, traces: dict[float, tuple[Outcome, Outcome]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(traces), 1, figsize=(10, 8), sharex=True, sharey=True)
    for axes, (ambient_c, (eased, plain)) in zip(panels, traces.items(), strict=True):
        hours = [poll * limits.poll_s / 3600 for poll in range(len(eased.trace_c))]
        axes.plot(
            hours, plain.trace_c, color="0.65", linewidth=0.8, label=f"hold and release: {plain.jobs} jobs"
        )
        axes.plot(hours, eased.trace_c, color="C1", linewidth=1.2, label=f"eased: {eased.jobs} jobs")
        for bound_c, style in ((limits.ease_c, ":"), (limits.hold_c, "--")):
            axes.axhline(bound_c, color="0.4", linestyle=style, linewidth=0.8)
        axes.set(title=f"room of {ambient_c:g} °C", ylabel="card, °C")
        axes.legend(loc="lower right")
    panels[-1].set_xlabel("hours (dotted: easing begins, dashed: hold)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
