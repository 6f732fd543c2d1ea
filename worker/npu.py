"""worker-npu: the Celery worker whose one child owns the card. The parent loads no device library."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from celery import signals

from config.settings import Settings
from tasks.app import app
from tasks.connection import connect
from worker import remote
from worker.boot import boot
from worker.events import LateEvents
from worker.gate import FactReader, Gate, deselect
from worker.link import Link, Stage
from worker.pool import CardPool, Owner, Seat
from worker.service import Service, serve

log = logging.getLogger("hearth.worker")


class CardWorker(Service):
    """Drains: the running job goes back to the queue at its next step. Nothing kills the child."""

    link: ClassVar[Link]

    def drain(self) -> None:
        self.link.drain()
        super().drain()

    def on_close(self) -> None:
        # However the end came about: Celery now waits for the running task, and this is what ends it.
        self.link.drain()
        super().on_close()


def run(settings: Settings, boot: Callable[[Link], Owner] = boot) -> NoReturn:
    """Serve until told to stop. Exits 0 after a drain, 1 with one line when the card cannot be had.

    ``boot`` runs in the child.
    """
    link = Link()
    Seat.link, Seat.boot = link, staticmethod(boot)
    CardWorker.link = Gate.link = link
    Gate.reader = FactReader(connect(settings), settings)
    app.steps["consumer"].add(Gate)
    app.steps["consumer"].add(LateEvents)
    signals.celeryd_after_setup.connect(_start_deselected, weak=False)
    hostname = f"npu@{socket.gethostname()}"
    worker = serve(CardWorker, app=app, hostname=hostname, pool=CardPool, concurrency=1, optimization="fair")
    remote.restrict(settings, worker.drain)
    worker.start()
    if link.stage is Stage.FAILED:
        sys.exit(f"worker-npu: {link.text}")
    log.info("worker-npu stopped")
    sys.exit(worker.exitcode or os.EX_OK)


def _start_deselected(sender: str, instance: Any, **_: object) -> None:
    deselect(instance.app)
