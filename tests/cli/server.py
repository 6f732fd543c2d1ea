"""A Hearth of canned answers, behind the transport of the client under test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from cli.client import Client

JOB_ID = "job_" + "0" * 40

JOB: dict[str, Any] = {
    "id": JOB_ID,
    "object": "job",
    "kind": "chat",
    "model": "hearth-chat",
    "state": "succeeded",
    "hold": None,
    "queue": "chat.hearth-chat",
    "position": None,
    "attempt": 1,
    "created_at": 1_795_000_000.0,
    "started_at": 1_795_000_001.0,
    "ended_at": 1_795_000_002.0,
    "timings": {"queued_ms": 1000.0, "load_ms": 0.0, "run_ms": 1000.0},
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 0},
    "output": [{"type": "text", "text": "Hello.", "finish_reason": "stop"}],
    "error": None,
    "warnings": [],
    "metadata": {},
}

MODEL: dict[str, Any] = {
    "id": "hearth-chat",
    "hearth": {
        "kind": "chat",
        "family": "qwen3",
        "context": 511,
        "size_bytes": 4 << 20,
        "is_demo": True,
        "is_resident": True,
        "needs_bytes": 6 << 20,
        "needs_basis": "estimated",
        "fits": True,
        "problem": None,
    },
}


def event(number: int, **event: Any) -> bytes:
    return f"id: {number}-0\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


ANSWER = (
    event(1, type="queued", attempt=0, reason=None),
    b": queued position=3\n\n",
    b": held reason=thermal the card is at 81 C\n\n",
    event(2, type="started", attempt=1, card="virtual-0"),
    event(3, type="text_delta", text="Hel", token_ids=[1]),
    event(4, type="text_delta", text="lo.", token_ids=[2]),
    event(5, type="finished", reason="stop"),
)


class Broken(httpx.SyncByteStream):
    """A body that breaks off after ``pieces``."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("connection reset")


class Server:
    """``routes`` maps ``"GET /path"`` to a response or a function of the request; requests are kept."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.routes: dict[str, httpx.Response | Callable[[httpx.Request], httpx.Response]] = {
            "GET /v1/models": httpx.Response(200, json={"data": [MODEL], "unusable": []}),
            "POST /v1/jobs": httpx.Response(202, json=JOB),
            f"GET /v1/jobs/{JOB_ID}": httpx.Response(200, json=JOB),
            f"GET /v1/jobs/{JOB_ID}/events": lambda _: httpx.Response(200, content=b"".join(ANSWER)),
        }

    def client(self) -> Client:
        return Client("http://hearth.test", "key", httpx.MockTransport(self._answer))

    def sent(self, method: str) -> list[Any]:
        return [json.loads(request.content) for request in self.asked if request.method == method]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        route = self.routes[f"{request.method} {request.url.path}"]
        return route if isinstance(route, httpx.Response) else route(request)
