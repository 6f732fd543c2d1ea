"""One supervised process: kept running with backoff, its words kept, let go when asked."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from cli.logs import ChildLog
from cli.processes import Process
from config.settings import CHECKOUT

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
"""A process that ran this long before it died is started again after the first, short pause."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
"""Loaded before any fork, so that a child on its way to exec only calls and allocates nothing of note."""


class Child:
    """Runs ``process`` until ``stop``. ``say`` gets one line whenever it dies unasked."""

    def __init__(
        self, process: Process, environment: Mapping[str, str], log: ChildLog, say: Callable[[str], None]
    ) -> None:
        self.process = process
        self.log = log
        self.deaths = 0
        """How often it has died unasked."""
        self.last_exit: int | None = None
        self.died = asyncio.Event()
        """Set at every unasked death; whoever waits for a good start clears and counts."""
        self._environment = {**environment, **process.environment}
        self._say = say
        self._running: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def pid(self) -> int | None:
        """None between a death and the next start."""
        return self._running.pid if self._running is not None else None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, *, may_kill: bool) -> None:
        """Ask it to end and wait until it has. What is late is killed when it may be, else waited for."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        if self._keeper is None:
            return
        patience_s = self.process.patience_s
        try:
            await asyncio.wait_for(asyncio.shield(self._keeper), patience_s)
        except TimeoutError:
            late = f"{self.name} did not stop within {patience_s:.0f} s"
            if may_kill:
                self._say(f"{late} and is killed")
                self.kill()
            else:
                self._say(f"{late}: it is waited for until it has left the card (pid {self.pid})")
            await self._keeper

    def signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            with suppress(ProcessLookupError):
                self._running.send_signal(number)

    def kill(self) -> None:
        """End it and everything it started, now and for good."""
        self._stopping.set()
        if self._running is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._running.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started_at_s = time.monotonic()
            self.last_exit = await self._run_once()
            if self._stopping.is_set():
                return
            self.deaths += 1
            self.died.set()
            if time.monotonic() - started_at_s >= HEALTHY_S:
                pause_s = FIRST_PAUSE_S
            self._say(f"{self.obituary()}; it is started again in {pause_s:.0f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def obituary(self) -> str:
        """How it ended and where to read more, in one line."""
        status = self.last_exit if self.last_exit is not None else 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        words = self.log.last_words()
        return f"{self.name} {how}{f' ({words})' if words else ''}, log: {self.log.path}"

    async def _run_once(self) -> int:
        """Start it, keep its words, return its exit status."""
        mouth = _Mouth(self.log)
        try:
            running = await asyncio.create_subprocess_exec(
                *self.process.command,
                env=self._environment,
                cwd=CHECKOUT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=mouth.write_end,
                stderr=mouth.write_end,
                start_new_session=True,  # the terminal's Ctrl-C is for us alone: we stop things in order
                pass_fds=self.process.inherit_fds,
                preexec_fn=_die_with(os.getpid(), self.process.on_orphaned),
            )
        except OSError as error:
            self.log.write(f"cannot start {self.process.command[0]}: {error}\n".encode())
            mouth.close()
            return 127
        mouth.started()
        self._running = running
        if self._stopping.is_set():  # asked to stop while it was on its way
            self.signal(signal.SIGTERM)
        try:
            return await running.wait()
        finally:
            self._running = None
            with suppress(TimeoutError):
                # Something it started may hold the pipe open: last words are waited for only briefly.
                await asyncio.wait_for(mouth.closed.wait(), 0.5)
            mouth.close()


class _Mouth:
    """The pipe a process speaks into. asyncio's own would have ``wait`` wait for every holder of it."""

    def __init__(self, log: ChildLog) -> None:
        self._log = log
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._open = {self._read_end, self.write_end}
        self.closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._read_end, self._listen)

    def started(self) -> None:
        self._close(self.write_end)

    def close(self) -> None:
        if self._read_end in self._open:
            asyncio.get_running_loop().remove_reader(self._read_end)
        self._close(self._read_end)
        self._close(self.write_end)

    def _listen(self) -> None:
        try:
            data = os.read(self._read_end, 65536)
        except BlockingIOError:
            return
        if data:
            self._log.write(data)
            return
        asyncio.get_running_loop().remove_reader(self._read_end)
        self._close(self._read_end)
        self.closed.set()

    def _close(self, end: int) -> None:
        if end in self._open:
            self._open.remove(end)
            os.close(end)


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    def ask_kernel() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_kernel
