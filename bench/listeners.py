"""Holds many requests open at once and reads whatever comes, in a process of its own, for ``bench.api``.

Standard input: a line of JSON, a list of ``[method, path, body or null]``; its end ends everything.
Standard output: ``open`` when every answer has begun, and at the end how many bytes came, and how many
answers ended before that.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit


class Listeners:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._open = 0
        self.all_open = asyncio.Event()
        self.bytes_read = 0
        self.ended = 0

    async def listen(self, wanted: list[Any]) -> None:
        """Returns when all have ended. Raises RuntimeError when one is refused."""
        await asyncio.gather(*(self._one(*each, of=len(wanted)) for each in wanted))

    async def _one(self, method: str, path: str, body: Any, *, of: int) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        sent = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(sent)}\r\n"
        )
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + sent)
        try:
            told = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in told.split(b"\r\n")[0]:
                raise RuntimeError(f"{method} {path}: {told.decode()}{(await reader.read(500)).decode()}")
            self._open += 1
            if self._open == of:
                self.all_open.set()
            while piece := await reader.read(65536):
                self.bytes_read += len(piece)
                if piece.endswith(b"0\r\n\r\n"):  # the last chunk: the connection itself stays open
                    break
            self.ended += 1
        finally:
            writer.close()


async def main(url: str) -> None:
    listeners = Listeners(url)
    listening = asyncio.create_task(listeners.listen(json.loads(sys.stdin.readline())))
    opening = asyncio.create_task(listeners.all_open.wait())
    await asyncio.wait({listening, opening}, return_when=asyncio.FIRST_COMPLETED)
    if not listeners.all_open.is_set():
        listening.result()
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    opening.cancel()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    sys.stdout.write(json.dumps({"bytes": listeners.bytes_read, "ended": listeners.ended}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
