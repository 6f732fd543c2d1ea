"""The pulls that go on in this process: one for each package, whoever asks for it follows the same."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from api.board import Board
from api.closing import Closing
from api.errors import Refusal
from api.packages.copying import Copying, Line, Stopped
from api.packages.shelf import Package
from tasks.board import Catalog, Model
from tasks.errors import ModelUnusable, NotReady

log = logging.getLogger("hearth.api")

_SILENCE_S = 5.0
"""What goes on is told again after so long without news: a client must see that we live."""
_LOOK_S = 0.25
_LISTED_S = 60.0
"""The monitor looks every few seconds, and a second time to see that a directory has come to rest."""


class Pull:
    """One package on its way. It goes on as long as somebody follows it."""

    def __init__(self, package: Package, models_dir: Path, board: Board, closing: Closing) -> None:
        self._loop = asyncio.get_running_loop()
        self._board = board
        self._name, self._place = package.id, package.directory
        self._stop = threading.Event()
        self._lines: list[Line] = []
        self._news = asyncio.Event()
        self._followers = 0
        copying = Copying(package, models_dir, self._from_thread, self._stop.is_set)
        self.done = asyncio.create_task(self._run(copying, closing))
        self.done.add_done_callback(lambda _: self._wake())

    @property
    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """The next piece is the last; what was copied stays for the next time."""
        self._stop.set()

    async def follow(self) -> AsyncGenerator[Line, None]:
        """Everything it has told, and goes on to tell, to its end.

        Raises:
            Refusal, JobError: it cannot be brought, or cannot be used.
            Stopped: the process leaves.
        """
        self._followers += 1
        told = 0
        try:
            while True:
                news = self._news
                while told < len(self._lines):
                    told += 1
                    yield self._lines[told - 1]
                if self.done.done():
                    self.done.result()
                    return
                try:
                    await asyncio.wait_for(news.wait(), _SILENCE_S)
                except TimeoutError:
                    told -= 1 if told else 0
        finally:
            self._followers -= 1
            if self._followers == 0 and not self.done.done():
                log.info("the pull of %s stops: nobody follows it any more", self._name)
                self.stop()

    async def _run(self, copying: Copying, closing: Closing) -> None:
        """The whole of it, or its beginning when the process leaves meanwhile."""
        work, leaving = asyncio.create_task(self._bring(copying)), closing.waiter()
        try:
            pending: set[asyncio.Future[None]] = {work, leaving}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Stopped
            work.result()
        finally:
            self.stop()
            for waiter in (work, leaving):
                waiter.cancel()

    async def _bring(self, copying: Copying) -> None:
        log.info("pulling %s from %s", self._name, self._place)
        place = await asyncio.to_thread(copying.run)
        model = await self._listed(place)
        log.info("pulled %s", self._name)
        if model.problem is not None:
            raise ModelUnusable(f"{model.id} is here, but cannot be used: {model.problem}", param="model")

    async def _listed(self, place: Path) -> Model:
        """The model that the monitor makes of the directory. Raises Refusal when none comes, Stopped."""
        give_up_s = time.monotonic() + _LISTED_S
        while time.monotonic() < give_up_s:
            if self.is_stopping:
                raise Stopped
            with suppress(RedisError):
                for model in (await known(self._board)).models:
                    if model.directory == str(place):
                        return model
            await asyncio.sleep(_LOOK_S)
        told = f"the package is in {place}, but has not been listed within {_LISTED_S:.0f} s"
        raise Refusal("queue_unavailable", f"{told}: does the monitor run?")

    def _from_thread(self, line: Line) -> None:
        with suppress(RuntimeError):  # the loop is gone: the process leaves
            self._loop.call_soon_threadsafe(self._tell, line)

    def _tell(self, line: Line) -> None:
        self._lines.append(line)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Pulls:
    def __init__(self) -> None:
        self._going: dict[str, Pull] = {}

    async def join(self, package: Package, models_dir: Path, board: Board, closing: Closing) -> Pull:
        """The pull of this package: the one that goes on, or a new one."""
        going = self._going.get(package.id)
        while going is not None and going.is_stopping and not going.done.done():
            await asyncio.wait([going.done])
            going = self._going.get(package.id)
        if going is None or going.done.done():
            going = self._going[package.id] = Pull(package, models_dir, board, closing)
            going.done.add_done_callback(lambda done: self._forget(package.id, done))
        return going

    def _forget(self, name: str, done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            done.exception()  # it is told to those who follow; with nobody left it is nobody's
        if name in self._going and self._going[name].done is done:
            del self._going[name]


async def known(board: Board) -> Catalog:
    """The published catalog; an empty one while there is none, or nothing in it."""
    try:
        return await board.catalog()
    except NotReady:
        return Catalog(scanned_at_ms=0)
