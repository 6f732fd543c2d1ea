"""What worker-npu and worker-monitor share: a Celery worker that is quiet and has one way to end."""

from __future__ import annotations

import os
import signal
import warnings
from typing import Any

from celery import bootsteps, signals
from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state as celery_state

state: Any = celery_state
"""Celery's flags; its stubs know them as None only."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PULSE_S = 0.1


class Pulse(bootsteps.StartStopStep):
    """Wakes the loop so that a signal is noticed soon: Python resumes a poll that a signal interrupts."""

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        hub.call_repeatedly(_PULSE_S, _nothing)


class Service(Worker):
    """However often it is told to stop, it finishes what it is at and leaves with 0."""

    def install_platform_tweaks(self, worker: object) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def drain(self) -> None:
        """Leave as soon as the work in hand is put away. Callable from a signal handler."""
        if state.should_stop is None:
            state.should_stop = os.EX_OK

    def _on_signal(self, number: int, frame: object) -> None:
        self.drain()


def serve(kind: type[Service], **options: Any) -> Service:
    """Make a worker without gossip, mingle and banner; ``options`` are Celery's."""
    # That running jobs go on without the broker is what we chose, and no news.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # Celery warns a worker that runs as root of pickled messages. We accept JSON only.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    # With a receiver, Celery leaves logging alone, in the parent and in the child.
    signals.setup_logging.connect(_nothing, weak=False)
    return kind(quiet=True, without_gossip=True, without_mingle=True, **options)


def _nothing(**_: object) -> None:
    pass
