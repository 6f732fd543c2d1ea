"""What a client may rely on, with everything real: whoever dies, and whatever the card is doing."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.stack import Stack, running_in
from tests.whole.conftest import MODEL, QUICK, Card, command

PATIENCE_S = 90.0
METADATA = (
    "/health",
    "/v1/models",
    "/v1/queue",
    "/v1/device",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/sdapi/v1/sd-models",
    "/sdapi/v1/options",
    "/sdapi/v1/samplers",
)


def submit(server: Stack, count: int) -> list[str]:
    """So many chats of the same words and seed: all have the same answer."""
    message = {"role": "user", "content": "List everything you can do."}
    one = {"kind": "chat", "model": MODEL, "messages": [message], "temperature": 2.0, "seed": 7}
    jobs = [{**one, "max_tokens": 60} for _ in range(count)]
    return [str(job["id"]) for job in httpx.post(f"{server.url}/v1/jobs", json=jobs).json()["data"]]


def until_it_speaks(server: Stack, job_id: str, attempt: int = 1) -> None:
    """Until the attempt of that number has streamed a part of the answer."""
    started = deltas = 0
    with httpx.stream("GET", f"{server.url}/v1/jobs/{job_id}/events", timeout=PATIENCE_S) as events:
        for line in events.iter_lines():
            started += line == "event: started"
            deltas += line == "event: text_delta" and started == attempt
            if deltas == 2:
                return
    raise AssertionError("it ended before it could be disturbed")


def answer(server: Stack, job_id: str) -> str:
    """What the job said, once it has succeeded. Its journal has one end."""
    job = until_ended(server, job_id)
    assert job["state"] == "succeeded", job["error"]
    told = httpx.get(f"{server.url}/v1/jobs/{job_id}/events").text.splitlines()
    assert sum(line in ("event: finished", "event: failed", "event: cancelled") for line in told) == 1
    streamed = [json.loads(line[6:]) for line in told if line.startswith("data: {")]
    text = "".join(str(event["text"]) for event in streamed if event.get("type") == "text_delta")
    kept = str(job["output"][0]["text"])
    assert text == kept, "what was streamed is what was kept"
    return kept


def until_ended(server: Stack, job_id: str) -> dict[str, Any]:
    """The record of the job when it has ended. The API may be away for a while."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            reply = httpx.get(f"{server.url}/v1/jobs/{job_id}")
        except httpx.TransportError:
            reply = None
        if reply is not None and reply.is_success and reply.json()["ended_at"] is not None:
            job: dict[str, Any] = reply.json()
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job_id} did not end in time")


def process(server: Stack, is_it: Callable[[list[str]], bool]) -> psutil.Process:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        for child in psutil.Process(server.pid).children():
            with suppress(psutil.Error):  # it may end while it is looked at
                if is_it(child.cmdline()):
                    return child
        time.sleep(0.02)
    raise AssertionError("it is not running")


KINDS: dict[str, Callable[[list[str]], bool]] = {
    "api": lambda line: line[-2:] == ["-m", "api"],
    "monitor": lambda line: line[-2:] == ["worker", "monitor"],
    "redis": lambda line: bool(line) and ("redis-server" in line[0] or "valkey" in line[0]),
    "npu": lambda line: line[-2:] == ["worker", "npu"],
}


def test_whichever_process_is_killed_no_job_is_lost(server: Stack, card: Card) -> None:
    card("set-fault", "slow", "--factor", "30")
    jobs = submit(server, 3)
    until_it_speaks(server, jobs[0])
    for kind, is_it in KINDS.items():
        victim = process(server, is_it)
        victim.kill()
        victim.wait(PATIENCE_S)
        assert process(server, is_it).pid != victim.pid, f"{kind} was not started again"
    card("set-fault", "none")
    assert len({answer(server, job) for job in jobs}) == 1, "one that was disturbed says what the others say"


def test_accepted_jobs_go_on_when_the_whole_house_was_down(tmp_path: Path) -> None:
    """Once killed all at a time, as by a power cut, and once stopped in order, as by a reboot."""
    with running_in(tmp_path, QUICK) as server:
        command(server, "set-fault", "slow", "--factor", "30")
        jobs = submit(server, 2)
        until_it_speaks(server, jobs[0])
        kill_all(server)
    with running_in(tmp_path, QUICK) as server:
        until_it_speaks(server, jobs[0], attempt=2)
    command(server, "set-fault", "none")
    with running_in(tmp_path, QUICK) as server:
        assert len({answer(server, job) for job in jobs}) == 1
        first = until_ended(server, jobs[0])
    assert (first["attempt"], first["strikes"]) == (3, 1), "only a death is a strike"


def kill_all(server: Stack) -> None:
    """Redis first, so that nobody has a last word."""
    family = psutil.Process(server.pid).children(recursive=True)
    family.sort(key=lambda member: "redis" not in member.name())
    os.kill(server.pid, signal.SIGSTOP)  # or it would start them again
    for member in family:
        member.kill()
    os.kill(server.pid, signal.SIGKILL)
    psutil.wait_procs(family, PATIENCE_S)


def test_metadata_is_told_within_milliseconds_while_the_card_is_busy(server: Stack, card: Card) -> None:
    def counters() -> Any:
        return json.loads(card("--json"))["counters"]

    def took_s(http: httpx.Client, path: str) -> float:
        began_s = time.perf_counter()
        assert http.get(path).status_code == 200, path
        return time.perf_counter() - began_s

    # The model that is loaded ahead of its jobs is on the card then, and tried out.
    until_ended(server, submit(server, 1)[0])
    with httpx.Client(base_url=server.url, timeout=30.0) as http:
        idle = counters()
        for path in METADATA:
            took_s(http, path)
        assert counters() == idle, "the card was asked"
        card("set-fault", "slow", "--factor", "30")
        (job,) = submit(server, 1)
        until_it_speaks(server, job)
        taken = {path: statistics.median(took_s(http, path) for _ in range(7)) for path in METADATA}
        assert http.get(f"/v1/jobs/{job}").json()["state"] == "running"
        assert max(taken.values()) < 0.05, taken
        assert http.post(f"/v1/jobs/{job}/cancel").is_success
    card("set-fault", "none")
    until_ended(server, job)
