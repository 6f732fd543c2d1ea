"""``hearth bench fuzz``: nothing that is sent may break the server, whatever it is.

Thousands of bodies made from valid ones of every dialect go to a whole ``hearth up``. No answer may be a 5xx
or have another form than its dialect's errors, no process may die, and afterwards the server must be ready.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from bench.mutations import Fuzzed, Fuzzer, seeds
from bench.report import Row, arguments, at_most, tell
from bench.stack import Stack, running

BODIES = 10_000
CONNECTIONS = 8
ENVIRONMENT = {f"HEARTH_QUEUE__{name}_CAP": "100000" for name in ("CHAT", "IMAGE", "BATCH")}
_TOLD = 300
_PATIENCE_S = 120.0
"""An answer that takes longer is a fault: nothing that is asked here takes a second by itself."""


@dataclass(slots=True)
class Verdict:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_path: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def fuzz(url: str, valid: dict[str, list[dict[str, Any]]], bodies: int, seed: int) -> Verdict:
    """Send so many; what was wrong with the answers."""
    fuzzer, verdict = Fuzzer(valid, seed), Verdict()
    left = iter(range(bodies))
    async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S) as client:

        async def send() -> None:
            for _ in left:
                await _one(client, fuzzer.next(), verdict)

        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))
    return verdict


async def _one(client: httpx.AsyncClient, made: Fuzzed, verdict: Verdict) -> None:
    verdict.by_path[made.path] += 1
    try:
        answer = await client.post(made.path, content=made.body, headers=made.headers)
    except httpx.HTTPError as error:
        verdict.faults.append(_told(made, f"{type(error).__name__} {error}"))
        return
    verdict.statuses[answer.status_code] += 1
    if answer.status_code >= 500 or not is_decent(made.path, answer):
        verdict.faults.append(_told(made, f"{answer.status_code} {answer.text[:_TOLD]}"))


def is_decent(path: str, answer: httpx.Response) -> bool:
    """Whether an error has the form of its dialect, and all else is what it says it is."""
    if answer.status_code < 400:
        return not answer.headers["content-type"].startswith("application/json") or bool(answer.content)
    body = answer.json()
    if path.startswith("/api/"):
        return isinstance(body["error"], str) and bool(body["error"])
    if path.startswith(("/sdapi/", "/internal/")):
        return bool(body["detail"])
    error = body["error"]
    return bool(error["message"] and error["code"] and error["type"]) and len(error["param"] or "") <= 300


def _told(made: Fuzzed, what: str) -> str:
    return f"{made.path}: {what}\n  {made.headers} {made.body[:_TOLD]!r} ({len(made.body)} bytes)"


def offered(url: str) -> dict[str, list[dict[str, Any]]]:
    """Valid bodies for the paths and the models of this server."""
    paths = httpx.get(f"{url}/openapi.json", timeout=30).json()["paths"]
    models = httpx.get(f"{url}/v1/models", timeout=30).json()["data"]
    first = {model["hearth"]["kind"]: model["id"] for model in reversed(models)}
    made = seeds(first["chat"], first.get("image", "none"), first.get("embed", "none"))
    return {path: bodies for path, bodies in made.items() if path in paths}


def processes(server: Stack) -> dict[int, str]:
    """Everything that ``hearth up`` runs, the owner of the card included."""
    found = psutil.Process(server.pid).children(recursive=True)
    return {process.pid: " ".join(process.cmdline()[-2:]) for process in found}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--bodies", type=int, default=BODIES)
    parser.add_argument("--seed", type=int, default=None, help="of everything that is random")
    options = parser.parse_args(argv)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    sys.stderr.write(f"seed {seed}\n")
    with running(ENVIRONMENT) as server:
        valid = offered(server.url)
        before = processes(server)
        began_s = time.monotonic()
        verdict = asyncio.run(fuzz(server.url, valid, options.bodies, seed))
        taken_s = time.monotonic() - began_s
        after = processes(server)
        ready = httpx.get(f"{server.url}/ready", timeout=30).json()
    died = [what for pid, what in before.items() if pid not in after]
    figures = {
        "seed": seed,
        "bodies": verdict.by_path.total(),
        "routes": len(valid),
        "faults": len(verdict.faults),
        "processes_died": len(died),
        "ready_afterwards": ready["ready"],
        "statuses": dict(sorted(verdict.statuses.items())),
        "taken_s": round(taken_s, 1),
    }
    taken = sum(count for status, count in verdict.statuses.items() if status < 300)
    rows = [
        Row("bodies sent", figures["bodies"], ""),
        Row("of these taken", taken, ""),
        at_most("answers that are no decent ones", figures["faults"], "", 0),
        at_most("processes that died", len(died), "", 0),
        Row("ready afterwards", int(ready["ready"]), "", "1", ready["ready"]),
    ]
    tell("fuzz", rows, figures, as_json=options.json, out=options.out)
    sys.stderr.write("".join(f"{each}\n" for each in [*verdict.faults[:40], *died, *ready["why"]]))
    return int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
