"""How open streams learn that the process is about to leave."""

from __future__ import annotations

import asyncio


class Closing:
    """Tells the open streams that the process is about to leave."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def waiter(self) -> asyncio.Future[None]:
        """A future that is done once the process is leaving; cancel it when no longer needed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_set:
            future.set_result(None)
        else:
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)
        return future
