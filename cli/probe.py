"""Asks the API we have just started, over loopback, without waking a whole HTTP library."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

ANSWER_S = 5.0
"""Metadata is answered within milliseconds; while everything starts, a small machine may take seconds."""


@dataclass(frozen=True, slots=True)
class Probe:
    host: str
    port: int
    api_key: str | None = None

    async def get(self, path: str) -> tuple[int, Any] | None:
        """Status and JSON body; None when nobody answers in time, or not in JSON."""
        with suppress(OSError, TimeoutError, ValueError, IndexError):
            return await asyncio.wait_for(self._get(path), ANSWER_S)
        return None

    async def _get(self, path: str) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            key = f"Authorization: Bearer {self.api_key}\r\n" if self.api_key else ""
            # HTTP/1.0: the answer ends where the connection ends, and is never sent in chunks.
            writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{key}\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return int(head.split(b" ", 2)[1]), json.loads(body)
        finally:
            writer.close()


def reachable(host: str) -> str:
    """Where a server that listens on ``host`` is found from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def url_of(host: str, port: int) -> str:
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
