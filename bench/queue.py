"""What the queue costs: the way to the first token, the relay of many streams, the API's memory, the start.

First token: one chat at a time through a whole ``hearth up`` on the virtual card; the time from POST to the
first streamed token, less what the card itself took for prefill and that token, by its own counters.
Relay: producers write journals, the API streams them to OpenAI's SDK; the time from a token's making to its
arrival.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from openai import AsyncOpenAI

from bench import stack
from bench.producers import MODEL
from bench.report import Row, arguments, at_most, quantile, tell
from cli.private_redis import PrivateRedis
from config.settings import settings as read_settings

DEMO = "hearth-chat"
WARM_UP = 3
QUESTIONS = (
    "What is Hearth?",
    "How do I submit a job?",
    "Who are you?",
    "Which port do you use?",
    "What happens when the card gets too hot?",
)
"""None that is thought about first: the marks around thoughts are tokens that nobody is sent."""


@dataclass(frozen=True, slots=True)
class Relay:
    """What came out of the streams: one delay per token, and how many came or came out of order."""

    delays_ms: list[float]
    expected: int
    received: int
    out_of_order: int


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--requests", type=int, default=100, help="first tokens to measure")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--rate", type=float, default=20.0, help="tokens per second and stream")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each stream")
    options = parser.parse_args()
    with stack.running() as server:
        overheads = [first_token_overhead_ms(server.url, i) for i in range(-WARM_UP, options.requests)][
            WARM_UP:
        ]
        ready_s = server.ready_s
    tokens = int(options.seconds * options.rate)
    with api_alone() as (url, pid):
        relay = measure_relay(url, options.streams, tokens, options.rate)
        rss_bytes = psutil.Process(pid).memory_info().rss
    _tell(options.json, options.out, overheads, relay, rss_bytes, ready_s)


def first_token_overhead_ms(url: str, number: int) -> float:
    """Milliseconds from POST to the first token of one streamed answer, less the card's own share of them.

    Asked by the standard library's client: a round trip to ``/health`` takes 0.8 ms through it and 2.3 ms
    through httpx, and the difference would be counted as ours.
    """
    question = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
    body = json.dumps({"model": DEMO, "messages": [question], "max_tokens": 4, "stream": True})
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60.0)
    with closing(connection):
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        if reply.status != httpx.codes.OK:
            raise RuntimeError(reply.read().decode(errors="replace"))
        job_id = reply.headers["x-job-id"]
        while line := reply.readline():
            if _content(line.decode()):
                first_ms = (time.perf_counter() - began) * 1000
                reply.read()
                return first_ms - _card_ms(url, job_id)
    raise RuntimeError(f"{job_id} streamed no token")


def _card_ms(url: str, job_id: str) -> float:
    """The card's own time up to the first token, as the job's last event tells it."""
    for line in httpx.get(f"{url}/v1/jobs/{job_id}/events").text.splitlines():
        if line.startswith("data: ") and '"finished"' in line:
            return float(json.loads(line[6:])["timings"]["first_token_card_ms"])
    raise RuntimeError(f"{job_id} did not finish")


def _content(line: str) -> str:
    if not line.startswith("data: {"):
        return ""
    chunk = json.loads(line[6:])
    if "error" in chunk:
        raise RuntimeError(chunk["error"]["message"])
    delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
    return delta.get("content") or delta.get("reasoning_content") or ""


@contextmanager
def api_alone() -> Iterator[tuple[str, int]]:
    """A Redis and an API without any worker: the address, and the API's process id."""
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        data_dir = Path(folder)
        private = PrivateRedis(data_dir)
        port = stack.free_port()
        os.environ.update(HEARTH_REDIS_URL=private.url, HEARTH_DATA_DIR=folder, HEARTH_PORT=str(port))
        read_settings.cache_clear()
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(subprocess.Popen(private.process.command, stdout=subprocess.DEVNULL))
            asyncio.run(asyncio.wait_for(private.answers(), 10.0))
            started.append(subprocess.Popen([sys.executable, "-m", "api"], stderr=subprocess.DEVNULL))
            url = f"http://127.0.0.1:{port}"
            _await_answer(url + "/health")
            yield url, started[1].pid
        finally:
            for process in reversed(started):
                stack.stop(process)
            private.close()


def _await_answer(url: str) -> None:
    limit = time.monotonic() + 30.0
    while True:
        try:
            httpx.get(url, timeout=2.0).raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.02)


def measure_relay(url: str, streams: int, tokens: int, rate: float) -> Relay:
    """``streams`` SDK clients read what as many producers write at ``rate`` tokens per second each."""
    command = [sys.executable, "-m", "bench.producers", str(streams), str(tokens), str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as producers:
        if producers.stdout is None or producers.stdout.readline() != "ready\n":
            raise RuntimeError("the producers did not start")
        readings = asyncio.run(_read_all(url, streams))
    if producers.returncode != 0:
        raise RuntimeError(f"the producers ended with {producers.returncode}")
    return Relay(
        delays_ms=[delay for reading in readings for _, delay in reading],
        expected=streams * tokens,
        received=sum(len(reading) for reading in readings),
        out_of_order=sum(
            number != place for reading in readings for place, (number, _) in enumerate(reading)
        ),
    )


async def _read_all(url: str, streams: int) -> list[list[tuple[int, float]]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        return await asyncio.gather(*(_read(client) for _ in range(streams)))


async def _read(client: AsyncOpenAI) -> list[tuple[int, float]]:
    """Number and delay in milliseconds of every token of one stream, in the order of arrival."""
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "go"}], stream=True
    )
    arrived: list[tuple[int, float]] = []
    async for chunk in stream:
        now = time.monotonic_ns()
        text = chunk.choices[0].delta.content if chunk.choices else None
        for line in (text or "").splitlines():
            number, _, made_ns = line.partition(":")
            arrived.append((int(number), (now - int(made_ns)) / 1e6))
    return arrived


def _tell(
    as_json: bool, out: Path, overheads: list[float], relay: Relay, rss_bytes: int, ready_s: float
) -> None:
    first = {"p50": quantile(overheads, 0.50), "p95": quantile(overheads, 0.95)}
    delays = {"p50": quantile(relay.delays_ms, 0.50), "p95": quantile(relay.delays_ms, 0.95)}
    figures = {
        "first_token_overhead_ms": first,
        "relay_ms": delays,
        "tokens_expected": relay.expected,
        "tokens_received": relay.received,
        "out_of_order": relay.out_of_order,
        "api_rss_bytes": rss_bytes,
        "ready_s": ready_s,
    }
    rows = [
        at_most("first token, overhead p50", first["p50"], "ms", 12),
        at_most("first token, overhead p95", first["p95"], "ms", 30),
        Row("relay p50, nothing deducted", delays["p50"], "ms"),
        at_most("relay p95, nothing deducted", delays["p95"], "ms", 10),
        Row("tokens expected", relay.expected, ""),
        Row("tokens received", relay.received, "", f"= {relay.expected}", relay.received == relay.expected),
        at_most("tokens out of order", relay.out_of_order, "", 0),
        at_most("API memory", rss_bytes / 1e6, "MB", 110),
        at_most("ready after", ready_s, "s", 8),
    ]
    picture = tell("queue", rows, figures, as_json=as_json, out=out)
    _draw(picture, overheads, relay.delays_ms)


def _draw(path: Path, overheads: list[float], delays: list[float]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for axes, values, title, bound in (
        (left, overheads, "POST to first token, less the card's time", 30.0),
        (right, delays, "token made to token received", 10.0),
    ):
        ordered = sorted(values)
        axes.plot(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))])
        axes.axvline(bound, color="0.6", linestyle="--", label=f"p95 target {bound:g} ms")
        axes.set(title=title, xlabel="ms", ylabel="share at or below", xlim=(0, None), ylim=(0, 1))
        axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
