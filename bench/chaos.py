"""``hearth bench chaos``: is a job ever lost? Everything is killed and broken while clients keep asking.

Real clients submit chats and pictures while, at random by a printed seed, the worker's child and parent, the
monitor, the API and Redis are killed with SIGKILL, and the card hangs, is lost, full or hot. At the end every
accepted job must have ended exactly once, with the text its readers were told, and what an undisturbed server
would have said.
"""

from __future__ import annotations

import math
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.crowd import Crowd, errands
from bench.havoc import FAULTS, KILLS, Havoc, Tally
from bench.inquest import PATIENCE_S, Verdict, judge
from bench.report import Row, arguments, tell
from bench.stack import Stack, running

JOBS = 400
CLIENTS = 12
ENOUGH = 0.97
"""This share of all accepted jobs has to succeed; the others must have had three processes die under them."""
CAPS = {"chat": 8, "image": 8, "batch": 8}
"""Low enough that the crowd meets them."""
ENVIRONMENT = {
    **{f"HEARTH_QUEUE__{name.upper()}_CAP": str(cap) for name, cap in CAPS.items()},
    "HEARTH_QUEUE__LEASE_S": "5",
    "HEARTH_THERMAL__POLL_S": "0.5",
    "HEARTH_RECOVERY__CONFIRM_S": "0.5",
    "HEARTH_RECOVERY__SETTLE_S": "0.5",
}
"""What takes minutes on a real card takes seconds here; nothing else differs from what is shipped."""
RAMPAGE_S = 120.0
"""Things are broken for so long at most; what is not done by then is done in peace."""
_SECONDS_PER_LOSS = 150.0
"""A card lost again within two minutes of its return waits for its next reboot: no test of jobs."""
_MORE_FILES = 64
"""So many more open files of the API may be pools: a connection or two for each of the crowd. One that stayed
for every stream would make hundreds."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=None, help="break things for so long")
    parser.add_argument("--jobs", type=int, default=None, help="how many jobs (400, or 180 a minute)")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is random")
    options = parser.parse_args(argv)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    sys.stderr.write(f"seed {seed}\n")
    limit_s = RAMPAGE_S if options.minutes is None else options.minutes * 60
    jobs = options.jobs or (JOBS if options.minutes is None else round(options.minutes * 180))
    figures, verdict, tally = rampage(jobs, seed, limit_s)
    picture = tell("chaos", _rows(figures), figures, as_json=options.json, out=options.out)
    draw(verdict, tally, picture)
    complaints = verdict.complaints()
    sys.stderr.write("".join(f"{each}\n" for each in complaints[:50]))
    return 0 if not complaints and figures["succeeded"] >= ENOUGH * figures["jobs"] else 1


def rampage(jobs: int, seed: int, limit_s: float) -> tuple[dict[str, Any], Verdict, Tally]:
    """``jobs`` jobs through a server that is being broken for ``limit_s``, and what became of them."""
    with running(ENVIRONMENT) as stack:
        todo = errands(jobs, seed, **_models(stack.url))
        before = _belongings(stack)
        crowd = Crowd(stack.url, todo, CLIENTS, secrets.token_hex(4))
        havoc = Havoc(stack.pid, stack.data_dir, seed, most_losses=math.ceil(limit_s / _SECONDS_PER_LOSS))
        watch = _CapWatch(stack.url)
        began_s = time.monotonic()
        havoc.start()
        crowd.start()
        # On a slow machine each recovery takes long: it is broken until it was killed a few times.
        while not crowd.is_done(within_s=0.5):
            watch.look()
            spent_s = time.monotonic() - began_s
            if spent_s > 2 * limit_s or (spent_s > limit_s and havoc.tally.count(KILLS) >= len(KILLS)):
                break
        havoc.stop()
        crowd.join(2 * PATIENCE_S)
        verdict = judge(stack.url, todo, random.Random(seed))
        verdict.contradictions += crowd.faults
        verdict.over_cap = watch.found
        verdict.leaks = _leaks(before, _belongings(stack))
    blow, recovery_s = _worst_recovery(havoc.tally, verdict)
    figures = {
        "seed": seed,
        "jobs": sum(errand.job_id is not None for errand in todo),
        "succeeded": verdict.states["succeeded"],
        "kills": havoc.tally.count(KILLS),
        "faults": havoc.tally.count(FAULTS),
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "contradictions": len(verdict.contradictions),
        "worst_recovery_s": round(recovery_s, 2),
        "worst_recovery_after": blow,
        "refused": sum(errand.refused for errand in todo),
        "states": dict(verdict.states),
    }
    return figures, verdict, havoc.tally


def _models(url: str) -> dict[str, list[str]]:
    found = httpx.get(f"{url}/v1/models", timeout=10).json()["data"]
    kinds = {"models": "chat", "pictures": "image"}
    return {
        name: [model["id"] for model in found if model["hearth"]["kind"] == kind]
        for name, kind in kinds.items()
    }


class _CapWatch:
    """Looks now and then whether more jobs were taken than the queues may hold."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.found: list[str] = []

    def look(self) -> None:
        try:
            answer = httpx.get(f"{self._url}/v1/queue", timeout=2.0)
        except httpx.TransportError:
            return
        if answer.status_code != httpx.codes.OK:
            return
        taken: Counter[str] = Counter()
        for row in answer.json()["queues"]:
            taken[row["class"]] += row["queued"] + row["running"]
        self.found += [f"{name}: {count} jobs" for name, count in taken.items() if count > CAPS[name]]


# ---- what must come back ----


@dataclass(frozen=True, slots=True)
class Belongings:
    """What the card and the API hold on to."""

    card_bytes: dict[str, int]
    """Per resident model."""
    api_files: int


def _belongings(stack: Stack) -> Belongings:
    """Asked with nothing going on."""
    card = httpx.get(f"{stack.url}/v1/device", timeout=10).json()["data"][0]
    sizes = {resident["model"]: resident["size_bytes"] for resident in card["residents"]}
    api = next(one for one in psutil.Process(stack.pid).children() if one.cmdline()[-2:] == ["-m", "api"])
    return Belongings(sizes, api.num_fds())


def _leaks(before: Belongings, after: Belongings) -> list[str]:
    """A model that takes much more of the card than at first, conversations included; files left open."""
    found = [
        f"{model} takes {after.card_bytes[model]} bytes of the card, {size} at first"
        for model, size in before.card_bytes.items()
        if model in after.card_bytes and after.card_bytes[model] > 2 * size
    ]
    if after.api_files > before.api_files + _MORE_FILES:
        found.append(f"the API has {after.api_files} files open, {before.api_files} at first")
    return found


def _worst_recovery(tally: Tally, verdict: Verdict) -> tuple[str, float]:
    """The blow after which it took longest until a job ended, and how long that was, in seconds."""
    ends = sorted(verdict.ended_at_s)
    waits = [
        (next((end - blow.at_s for end in ends if end >= blow.at_s), 0.0), blow.what) for blow in tally.blows
    ]
    longest_s, what = max(waits, default=(0.0, ""))
    return what, longest_s


# ---- telling ----


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    jobs = figures["jobs"]
    enough = figures["succeeded"] >= ENOUGH * jobs
    never = ("lost", "duplicated", "contradictions")
    return [
        Row("jobs accepted", jobs, ""),
        Row("of these succeeded", figures["succeeded"], f"of {jobs}", "≥ 97 %", enough),
        *(Row(name, figures[name], "", "0", figures[name] == 0) for name in never),
        Row("processes killed", figures["kills"], ""),
        Row("faults of the card", figures["faults"], ""),
        Row("refused by a full queue, asked again", figures["refused"], ""),
        Row(f"longest recovery ({figures['worst_recovery_after']})", figures["worst_recovery_s"], "s"),
    ]


def draw(verdict: Verdict, tally: Tally, picture: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4))
    ends = sorted(verdict.ended_at_s)
    begin_s = min([*ends, *(blow.at_s for blow in tally.blows)], default=0.0)
    axes.step([end - begin_s for end in ends], range(1, len(ends) + 1), where="post", label="jobs that ended")
    for blow in tally.blows:
        at_s = blow.at_s - begin_s
        axes.axvline(at_s, color="tab:red" if blow.what in KILLS else "tab:orange", linewidth=0.6)
        axes.text(at_s, 0, f" {blow.what}", rotation=90, fontsize=6, va="bottom")
    axes.set_xlabel("seconds (red: a process killed, orange: the card broken)")
    axes.set_ylabel("jobs")
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
