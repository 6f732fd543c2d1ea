"""Starts the processes in order, keeps them running, and stops them in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cli.child import Child
from cli.errors import CliError
from cli.logs import ChildLog
from cli.processes import Process

DEATHS_WHILE_STARTING = 3
"""A process that dies so often before it was ever ready will not get better by trying again."""
STOP_ORDER: tuple[tuple[str, ...], ...] = (("api",), ("npu",), ("monitor", "flower"), ("redis",))
"""No new work; what runs is drained while health is still read; what it wrote is saved last."""


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came before everything was ready."""


class Supervisor:
    """The parent of all processes of one ``hearth up``. Use within one running event loop."""

    def __init__(
        self, *, logs: Path, environment: Mapping[str, str], verbose: bool, say: Callable[[str], None]
    ) -> None:
        self.children: dict[str, Child] = {}
        self.stop_asked = asyncio.Event()
        self.card_is_virtual = False
        """Only then may the owner of the card be killed when it is late."""
        self._logs = logs
        self._environment = environment
        self._verbose = verbose
        self._say = say

    def start(self, process: Process) -> Child:
        log = ChildLog(
            self._logs / f"{process.name}.log", prefix=process.name.ljust(7), verbose=self._verbose
        )
        child = Child(process, self._environment, log, self._say)
        self.children[process.name] = child
        child.start()
        return child

    def watch_signals(self) -> None:
        """From now on Ctrl-C, SIGTERM and SIGHUP ask for an orderly stop; a second one for a quick one."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the end of the terminal is not meant to be ours
            loop.add_signal_handler(number, self._on_signal)

    async def until_ready(self, ready: Awaitable[None], *, timeout_s: float, what: str) -> None:
        """Wait for ``ready``; give up when a child keeps dying, at a signal, or after ``timeout_s``.

        Raises:
            CliError: it will not come up; the message says who is at fault and where to read more.
            Interrupted: a signal came first.
        """
        waiting = asyncio.ensure_future(ready)
        stop = asyncio.ensure_future(self.stop_asked.wait())
        hopeless = asyncio.ensure_future(self._hopeless())
        try:
            await asyncio.wait(
                {waiting, stop, hopeless}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if waiting.done():
                return waiting.result()
            if stop.done():
                raise Interrupted
            if hopeless.done():
                raise CliError(hopeless.result())
            raise CliError(f"{what} was not ready within {timeout_s:.0f} s; the logs are in {self._logs}")
        finally:
            for task in (waiting, stop, hopeless):
                task.cancel()

    async def stop(self, order: tuple[tuple[str, ...], ...] = STOP_ORDER) -> None:
        """Stop everything, group after group; whatever is not in ``order`` goes first."""
        named = {name for group in order for name in group}
        others = tuple(name for name in self.children if name not in named)
        for group in (others, *order):
            await asyncio.gather(*(self._stop_child(self.children[n]) for n in group if n in self.children))

    async def _stop_child(self, child: Child) -> None:
        await child.stop(may_kill=self.card_is_virtual or not child.process.owns_card)
        child.log.close()

    async def _hopeless(self) -> str:
        """Return the obituary of the first child that died too often."""
        while True:
            for child in self.children.values():
                if child.deaths >= DEATHS_WHILE_STARTING:
                    return f"{child.obituary()}. It died {child.deaths} times while starting"
            deaths = [asyncio.ensure_future(child.died.wait()) for child in self.children.values()]
            try:
                await asyncio.wait(deaths, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for death in deaths:
                    death.cancel()
            for child in self.children.values():
                child.died.clear()

    def _on_signal(self) -> None:
        if not self.stop_asked.is_set():
            self.stop_asked.set()
            self._say("stopping (once more to be quick about it) ...")
            return
        for child in self.children.values():
            if child.process.name == "redis":
                continue  # it saves what the others wrote, in milliseconds
            if child.process.owns_card and not self.card_is_virtual:
                self._say(f"{child.name} may be using a real card and is waited for (pid {child.pid})")
            else:
                child.kill()
