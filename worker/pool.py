"""Celery's prefork pool, bent to a child that owns a card.

What differs from stock prefork (celery 5.7.0, billiard 4.3.2, read in their source in 2026-11): the card is
opened in the child before it says that it is up; a child that starts slowly is not killed for it; one that
cannot have the card ends the worker instead of being started again for ever; a child that was told to stop
leaves between two jobs, as does one that has grown too large; and it closes its card before it goes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from celery.concurrency import asynpool, prefork

from worker.link import Link, Stage
from worker.service import state

_Worker: Any = asynpool.Worker
_AsynPool: Any = asynpool.AsynPool
_TaskPool: Any = prefork.TaskPool
"""celery-types 0.26 knows half of what these classes have; they are taken as untyped."""

log = logging.getLogger("hearth.card")

_NEVER_S = 10 * 365 * 86400.0

_IDLE_LOOK_S = 0.25
_EXIT_FAILURE = 1
_STILLBORN_LIMIT = 3


class BootError(Exception):
    """The child cannot become the owner of the card. The message is one line, for people."""


class Owner(Protocol):
    """What the child is besides a Celery worker (``worker.boot`` makes it)."""

    def is_stopping(self) -> bool: ...

    def settle(self) -> None:
        """Called once the child accepts work: what need not be ready before the first job."""
        ...

    def attend(self) -> None:
        """Called a few times a second while no job runs: what may only be done between two jobs."""
        ...

    def has_outgrown(self) -> bool:
        """Asked after each job: whether a fresh process should do the next one."""
        ...

    def leave(self) -> None: ...


class Seat:
    """Where the parent leaves what its children need; set once, before the first fork."""

    link: ClassVar[Link]
    boot: ClassVar[Callable[[Link], Owner]]


class CardProcess(_Worker):  # type: ignore[misc]  # untyped, see above
    """The child: the one process that owns the card."""

    owner: Owner
    wait_for_job: Any

    def on_loop_start(self, pid: int) -> None:
        """Boot, and only then tell the parent that work may come. Runs after billiard has set its signals."""
        try:
            self.owner = Seat.boot(Seat.link)
        except Exception as error:
            if not isinstance(error, BootError):
                log.exception("the card's process failed to start in a way nobody foresaw")
            # Told to stop in the middle of its boot, a child has not failed.
            if not Seat.link.is_draining:
                Seat.link.fail(str(error) or type(error).__name__)
            # 0: billiard would print a line of its own for any other code, and the parent has ours.
            os._exit(0)
        super().on_loop_start(pid)
        # A model that killed our predecessor would kill us, and the next: loaded for a job it costs strikes.
        if not Seat.link.is_settling:
            Seat.link.settling(True)
            self.owner.settle()
            Seat.link.settling(False)

    def _make_child_methods(self, *args: Any, **kwargs: Any) -> None:
        super()._make_child_methods(*args, **kwargs)
        receive = self.wait_for_job
        poll = self.inq._reader.poll
        has_worked = False

        def wait_for_job() -> Any:
            nonlocal has_worked
            # Never before its first job: a limit below what a process needs at all would end each of them.
            if has_worked and self.owner.has_outgrown():
                raise SystemExit(0)
            # Stock billiard blocks in a read here and would never see that it was told to stop.
            while not poll(_IDLE_LOOK_S):
                if self.owner.is_stopping():
                    raise SystemExit(0)
                self.owner.attend()
            if self.owner.is_stopping():
                raise SystemExit(0)
            has_worked = True
            return receive()

        self.wait_for_job = wait_for_job

    def _do_exit(self, pid: int, exitcode: int | None, exc: BaseException | None = None) -> None:
        """Give the card back and go. Says no DEATH: its only effect is a SIGTERM from the parent."""
        code = exitcode if exitcode is not None else (_EXIT_FAILURE if exc else 0)
        try:
            self.owner.leave()
        finally:
            os._exit(code)


class CardAsynPool(_AsynPool):  # type: ignore[misc]  # untyped, see above
    """One child at a time, started anew when it dies, unless it failed to get the card or we are leaving."""

    Worker = CardProcess

    def __init__(self, *args: Any, **options: Any) -> None:
        # Celery's answer to a child that is slow to start is SIGKILL.
        super().__init__(*args, **{**options, "proc_alive_timeout": _NEVER_S})
        self._stillborn = 0

    def _create_worker_process(self, i: int) -> Any:
        Seat.link.restart()
        return super()._create_worker_process(i)

    def _repopulate_pool(self, exitcodes: list[int]) -> None:
        for code in exitcodes:
            Seat.link.died(code)
        self._count_stillborn(len(exitcodes))
        if Seat.link.stage is Stage.FAILED:
            state.should_stop = _EXIT_FAILURE
        elif not Seat.link.is_draining:
            super()._repopulate_pool(exitcodes)

    def _count_stillborn(self, dead: int) -> None:
        """Give up on a child that dies again and again before it has the card; supervisors back off."""
        self._stillborn = self._stillborn + dead if Seat.link.stage is Stage.STARTING else 0
        if self._stillborn >= _STILLBORN_LIMIT:
            times = f"{self._stillborn} times before it had opened the card"
            Seat.link.fail(f"the card's process died {times}")

    def did_start_ok(self) -> bool:
        """Always: a child that failed is noticed by its exit, with its own words."""
        return True


class CardPool(_TaskPool):  # type: ignore[misc]  # untyped, see above
    """The pool class worker-npu is started with."""

    Pool = CardAsynPool
