"""A Celery worker whose engine counts to ten, for tests that need the real process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence

from celery.signals import worker_process_init

from config.settings import settings
from tasks import ownership
from tasks.app import app
from tasks.connection import connect
from tasks.engines import Signals, Verdict, engines
from tasks.events import Event, TextDelta
from tasks.jobs import ChatJob
from tests.tasks.factory import DONE

__all__ = ["app"]

COUNT = 10


class Counter:
    """Says 0 to 9, slower than text is coalesced. A job whose seed is 13 kills the process at 5, once."""

    def stream(self, job: ChatJob, *, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        for number in range(len(emitted), COUNT):
            if signals.between_steps() is not Verdict.GO_ON:
                return
            if number == COUNT // 2 and job.sampling.seed == 13 and not emitted:
                os.kill(os.getpid(), signal.SIGKILL)
            with signals.calling_card(1.0):
                time.sleep(0.05)
            yield TextDelta(f"{number} ", (number,))
        yield DONE


@worker_process_init.connect
def boot(**_: object) -> None:
    ownership.become_owner("c0", connect(settings()), settings())
    engines().chat = Counter()
