"""Clients that never give up: they submit jobs to a server that is being killed, and note what they hear.

A submission whose answer was lost is sent again with its Idempotency-Key; a stream that broke is picked up at
its last event. So whatever contradicts itself is the server's doing.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
TERMINAL = frozenset({"finished", "failed", "cancelled", "expired"})
"""States and events that a job ends with."""
_PATIENCE_S = 0.15
_QUESTIONS = (
    "What is Hearth?",
    "How do I submit a job?",
    "What does the governor do?",
    "What is 47 + 38?",
    "Spell the word lantern.",
    "How do I cancel a job?",
)
_PROMPTS = ("a red circle on a blue background", "a green square on a white background")


@dataclass(slots=True)
class Errand:
    """One job of one client: what it asks, how it listens, and what it has heard."""

    number: int
    body: dict[str, Any]
    follows: bool
    job_id: str | None = None
    refused: int = 0
    heard: list[tuple[str, str]] = field(default_factory=list)
    """(event id, text) in the order of arrival."""
    ends: list[str] = field(default_factory=list)
    """Terminal events it was told of."""
    kept: str | None = None
    """What the record has of it in the end."""

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.heard)


def errands(count: int, seed: int, models: Sequence[str], pictures: Sequence[str]) -> list[Errand]:
    """Chats, some followed as they are made, some in the batch queue; pictures where there are any."""
    chance = random.Random(seed)
    return [_errand(number, chance, models, pictures) for number in range(count)]


def _errand(number: int, chance: random.Random, models: Sequence[str], pictures: Sequence[str]) -> Errand:
    is_batch = chance.random() < 0.2
    if pictures and chance.random() < 0.15:
        body: dict[str, Any] = {
            "kind": "image",
            "model": chance.choice(pictures),
            "prompt": chance.choice(_PROMPTS),
            "seed": number,
            "class": "batch" if is_batch else "image",
        }
        return Errand(number, body, follows=False)
    body = {
        "kind": "chat",
        "model": chance.choice(models),
        "messages": [{"role": "user", "content": chance.choice(_QUESTIONS)}],
        "temperature": 1.0,
        "seed": number,
        "max_tokens": chance.randint(8, 60),
        "class": "batch" if is_batch else "chat",
    }
    return Errand(number, body, follows=chance.random() < 0.4)


class Crowd:
    """``clients`` threads that take the errands one after the other."""

    def __init__(self, url: str, todo: Sequence[Errand], clients: int, run_id: str) -> None:
        self._url = url
        self._todo = iter(todo)
        self._lock = threading.Lock()
        self._run_id = run_id
        self._stop = threading.Event()
        self.faults: list[str] = []
        """Answers that no client should ever get."""
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def is_done(self, within_s: float) -> bool:
        """Wait a little; whether all errands are done."""
        alive = next((thread for thread in self._threads if thread.is_alive()), None)
        if alive is not None:
            alive.join(within_s)
        return not any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Whether all errands were done in time; what is left is dropped."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        done = not any(thread.is_alive() for thread in self._threads)
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        return done

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=httpx.Timeout(10.0, connect=2.0)) as client:
            while not self._stop.is_set():
                with self._lock:
                    errand = next(self._todo, None)
                if errand is None:
                    return
                self._submit(client, errand)
                if errand.job_id is not None:
                    (self._follow if errand.follows else self._poll)(client, errand)

    def _submit(self, client: httpx.Client, errand: Errand) -> None:
        headers = {"Idempotency-Key": f"chaos-{self._run_id}-{errand.number}"}
        while not self._stop.is_set():
            try:
                answer = client.post("/v1/jobs", json=errand.body, headers=headers)
            except httpx.TransportError:
                self._stop.wait(_PATIENCE_S)
                continue
            if answer.status_code in (200, 202):
                errand.job_id = answer.json()["id"]
                return
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                errand.refused += 1
            elif answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                self.faults.append(f"POST /v1/jobs: {answer.status_code} {answer.text[:200]}")
                return
            self._stop.wait(min(float(answer.headers.get("retry-after", 1)), 1.0))

    def _poll(self, client: httpx.Client, errand: Errand) -> None:
        while not self._stop.is_set():
            state = self._state(client, errand)
            if state in ENDED:
                return
            self._stop.wait(_PATIENCE_S)

    def _state(self, client: httpx.Client, errand: Errand) -> str | None:
        try:
            answer = client.get(f"/v1/jobs/{errand.job_id}")
        except httpx.TransportError:
            return None
        if answer.status_code == httpx.codes.NOT_FOUND:
            self.faults.append(f"{errand.job_id} is gone")
            return "failed"
        return str(answer.json()["state"]) if answer.status_code == httpx.codes.OK else None

    def _follow(self, client: httpx.Client, errand: Errand) -> None:
        while not self._stop.is_set() and not errand.ends:
            last = errand.heard[-1][0] if errand.heard else None
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with client.stream("GET", f"/v1/jobs/{errand.job_id}/events", headers=headers) as answer:
                    if answer.status_code == httpx.codes.OK:
                        for event_id, event in events(answer.iter_lines()):
                            _hear(errand, event_id, event)
            except (httpx.TransportError, ValueError):
                pass
            self._stop.wait(_PATIENCE_S)


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, event) of server-sent events. Raises ValueError where one was cut short."""
    event_id = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, json.loads(value)


def _hear(errand: Errand, event_id: str, event: dict[str, Any]) -> None:
    kind = event["type"]
    if kind == "text_delta":
        errand.heard.append((event_id, event["text"]))
    elif kind in TERMINAL:
        errand.ends.append(kind)
