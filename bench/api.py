"""What the API costs those who only look, and what those who only listen cost it.

Metadata: 64 chats are streamed, of which 32 are to be left at the end, and 64 jobs wait; another process asks
for the lists of models and for the health, again and again on one connection.
Listeners: 200 readers of jobs that wait in a paused queue. What the API's process has grown by is theirs, and
a chat's first token is to come as soon as without them.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from bench import stack
from bench.queue import QUESTIONS
from bench.report import Row, arguments, at_most, quantile, tell

MODEL = "hearth-chat"
PATHS = {"tags": "/api/tags", "models": "/v1/models", "health": "/health"}
METADATA_MS = 25.0
LISTENERS_BYTES = 60 * 1024 * 1024
ENVIRONMENT = {
    "HEARTH_QUEUE__CHAT_CAP": "1000",
    "HEARTH_QUEUE__BATCH_CAP": "10000",
    "HEARTH_LOG_LEVEL": "warning",
    "HEARTH_VIRTUAL_CARD__TIMING": "pi5",
}
"""Room for all of them; nothing else differs from what is shipped."""
NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
"""The form of an answer that goes on for long."""
ROUNDS = 4
_PAUSE_S = 0.004
"""Between two questions of one asker: a browser that polls is slower by far."""


@dataclass(slots=True)
class Found:
    """What was measured. Times are milliseconds."""

    metadata_ms: dict[str, list[float]] = field(default_factory=dict)
    first_token_ms: dict[str, list[float]] = field(default_factory=lambda: {"alone": [], "listened": []})
    streams_open: int = 0
    jobs_waiting: int = 0
    readers: int = 0
    rss_before: int = 0
    rss_after: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--questions", type=int, default=1000, help="of each kind of metadata")
    parser.add_argument("--streams", type=int, default=64, help="at first; 32 are to be left at the end")
    parser.add_argument("--jobs", type=int, default=64, help="that wait meanwhile")
    parser.add_argument("--readers", type=int, default=200, help="of jobs that do not move")
    parser.add_argument("--tokens", type=int, default=40, help="first tokens, with and without readers each")
    options = parser.parse_args(argv)
    found = Found()
    with stack.running(ENVIRONMENT) as server:
        listen(server, found, options.readers, options.tokens)
    with stack.running(ENVIRONMENT) as server:
        look(server, found, options.questions, options.streams, options.jobs)
    figures = figures_of(found)
    rows = rows_of(figures)
    picture = tell("api", rows, figures, as_json=options.json, out=options.out)
    draw(found, picture)
    return int(any(row.is_met is False for row in rows))


# ---- those who only look ----


def look(server: stack.Stack, found: Found, questions: int, streams: int, jobs: int) -> None:
    """Ask for metadata while chats are streamed and jobs wait."""
    chat = _chat("Tell me numbers.", stream=True, max_tokens=400, response_format=_form(NUMBERS))
    waiting = [_chat("Tell me numbers.", max_tokens=200, response_format=_form(NUMBERS)) for _ in range(jobs)]
    httpx.post(f"{server.url}/v1/jobs", json=waiting[:1], timeout=60).raise_for_status()
    with held(server.url, [("POST", "/v1/chat/completions", chat)] * streams) as told:
        httpx.post(f"{server.url}/v1/jobs", json=waiting, timeout=60).raise_for_status()
        found.metadata_ms = asked(server.url, questions)
        found.jobs_waiting = int(httpx.get(f"{server.url}/v1/queue", timeout=60).json()["queued"])
    found.streams_open = streams - int(told["ended"])


def asked(url: str, questions: int) -> dict[str, list[float]]:
    """Milliseconds of each answer, by the name in ``PATHS``; asked by turns from a process of its own."""
    command = [sys.executable, "-m", "bench.api", "--ask", url, str(questions)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600)
    told: dict[str, list[float]] = json.loads(done.stdout)
    return told


def ask(url: str, questions: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in PATHS}
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as line:
        for number in range(-10, questions):
            for name, path in PATHS.items():
                began = time.perf_counter()
                line.request("GET", path)
                answer = line.getresponse()
                body = answer.read()
                if answer.status != httpx.codes.OK:
                    raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
                if number >= 0:
                    taken[name].append((time.perf_counter() - began) * 1000)
                time.sleep(_PAUSE_S)
    return taken


# ---- those who only listen ----


def listen(server: stack.Stack, found: Found, readers: int, tokens: int) -> None:
    """Measure the API's memory and first tokens, without readers and with ``readers`` of them."""
    api = api_of(server)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.post("/v1/queue/pause", json={"class": "batch"}).raise_for_status()
        time.sleep(1)  # the worker looks twice a second what is paused
        waiting = [_chat("Hello?", max_tokens=4, **{"class": "batch"}) for _ in range(readers)]
        listed = client.post("/v1/jobs", json=waiting).raise_for_status().json()
    paths = [f"/v1/jobs/{job['id']}/events" for job in listed["jobs"]]
    for number in range(5):
        first_token_ms(server.url, number)
    found.rss_before = api.memory_info().rss
    for _ in range(ROUNDS):  # by turns: what else the machine does meanwhile comes and goes
        found.first_token_ms["alone"] += [first_token_ms(server.url, n) for n in range(tokens // ROUNDS)]
        with held(server.url, [("GET", path, None) for path in paths]) as told:
            time.sleep(2)  # so that each has been told its place at least once
            found.first_token_ms["listened"] += [
                first_token_ms(server.url, n) for n in range(tokens // ROUNDS)
            ]
            found.rss_after = max(found.rss_after, api.memory_info().rss)
        found.readers = readers - int(told["ended"])


def first_token_ms(url: str, number: int) -> float:
    """From POST to the first token of one streamed chat. Raises RuntimeError when none comes."""
    body = json.dumps(_chat(QUESTIONS[number % len(QUESTIONS)], stream=True, max_tokens=4))
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as line:
        line.connect()
        began = time.perf_counter()
        line.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        while told := answer.readline():
            if told.startswith(b"data: {") and _has_token(json.loads(told[6:])):
                taken_ms = (time.perf_counter() - began) * 1000
                answer.read()
                return taken_ms
    raise RuntimeError("a chat streamed no token")


def _has_token(chunk: dict[str, Any]) -> bool:
    deltas = [choice["delta"] for choice in chunk.get("choices", ())]
    return any(delta.get("content") or delta.get("reasoning_content") for delta in deltas)


# ---- common ----


def api_of(server: stack.Stack) -> psutil.Process:
    """The process of the API."""
    is_api: Callable[[psutil.Process], bool] = lambda process: process.cmdline()[-2:] == ["-m", "api"]  # noqa: E731
    return next(filter(is_api, psutil.Process(server.pid).children()))


@contextmanager
def held(url: str, wanted: Sequence[tuple[str, str, Any]]) -> Iterator[dict[str, int]]:
    """All these requests open at once, in another process, until the end of the block.

    Yields a dictionary that holds ``bytes`` and ``ended`` afterwards.
    """
    command = [sys.executable, "-m", "bench.listeners", url]
    told: dict[str, int] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process was started without the pipes it was asked for. This is a bug.")
        try:
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
            if process.stdout.readline() != "open\n":
                raise RuntimeError("not all requests could be opened")
            yield told
            process.stdin.close()
            told.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


def _chat(words: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": words}]
    return {"model": MODEL, "messages": turns, "temperature": 0, "enable_thinking": False, **more}


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


# ---- telling ----


def figures_of(found: Found) -> dict[str, Any]:
    alone, listened = (found.first_token_ms[name] for name in ("alone", "listened"))
    return {
        "metadata_p99_ms": {name: round(quantile(ms, 0.99), 2) for name, ms in found.metadata_ms.items()},
        "metadata_median_ms": {name: round(median(ms), 2) for name, ms in found.metadata_ms.items()},
        "streams_open": found.streams_open,
        "jobs_waiting": found.jobs_waiting,
        "sse_readers": found.readers,
        "sse_readers_rss_bytes": max(0, found.rss_after - found.rss_before),
        "first_token_ms": {"alone": round(median(alone), 2), "listened": round(median(listened), 2)},
        "first_token_ratio": round(median(listened) / median(alone), 3),
    }


def rows_of(figures: dict[str, Any]) -> list[Row]:
    asked_for = figures["metadata_p99_ms"].items()
    return [
        *(at_most(f"{PATHS[name]}, 99 of 100 within", ms, "ms", METADATA_MS) for name, ms in asked_for),
        Row("streams open meanwhile", figures["streams_open"], ""),
        Row("jobs waiting meanwhile", figures["jobs_waiting"], ""),
        Row("readers of jobs that wait", figures["sse_readers"], ""),
        at_most("memory they cost", figures["sse_readers_rss_bytes"] / 2**20, "MiB", LISTENERS_BYTES / 2**20),
        Row("first token without readers", figures["first_token_ms"]["alone"], "ms"),
        Row("first token beside them, as a ratio", figures["first_token_ratio"], ""),
    ]


def draw(found: Found, picture: Path) -> None:
    """How the times are spread."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for name, ms in found.metadata_ms.items():
        axes[0].ecdf(ms, label=PATHS[name])
    axes[0].axvline(METADATA_MS, color="grey", linewidth=0.8)
    axes[0].set_title("metadata on a busy server")
    for name, ms in found.first_token_ms.items():
        axes[1].ecdf(ms, label=f"{found.readers} readers" if name == "listened" else "no readers")
    axes[1].set_title("first token")
    for each in axes:
        each.set_xlabel("milliseconds")
        each.set_ylabel("share of answers")
        each.legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        sys.stdout.write(json.dumps(ask(sys.argv[2], int(sys.argv[3]))))
        sys.exit()
    sys.exit(main())
