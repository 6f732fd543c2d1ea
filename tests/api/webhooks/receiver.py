"""A receiver of webhooks on loopback: remembers what it heard, answers as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behave = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Heard:
    """One request. Names of headers are in small letters."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


@dataclass
class Receiver:
    """``with``: listens on a port of its own. ``answers`` are used up one by one; then it is 204."""

    tls: ssl.SSLContext | None = None
    answers: deque[int | Behave] = field(default_factory=deque)
    heard: list[Heard] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._hear(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # Whoever hangs up early is what some of these tests are about.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait(self, count: int, timeout_s: float = 10.0) -> list[Heard]:
        """What was heard, as soon as it is so much."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, timeout_s), self.heard
            return list(self.heard)

    def _hear(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._changed:
            answer = self.answers.popleft() if self.answers else 204
            self.heard.append(Heard(handler.path, headers, body))
            self._changed.notify_all()
        if callable(answer):
            answer(handler)
        else:
            handler.send_response(answer)
            handler.send_header("content-length", "0")
            handler.end_headers()


async def heard(receiver: Receiver, count: int = 1) -> list[Heard]:
    return await asyncio.to_thread(receiver.wait, count)
