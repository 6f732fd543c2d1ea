"""A thread that calls out when an execution has not ended in time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Cheap to arm: the thread is only woken when a deadline comes before its next look."""

    def __init__(self, on_late: Callable[[], None]) -> None:
        self.fired = False
        self._on_late = on_late
        self._deadline = math.inf
        self._next_look = math.inf
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="card-watchdog", daemon=True)
        self._thread.start()

    def arm(self, timeout_s: float) -> None:
        # The thread writes _next_look, then reads _deadline; we do it the other way round, so one of us
        # always sees the other.
        self._deadline = time.monotonic() + timeout_s
        if self._deadline < self._next_look:
            self._wake.set()

    def disarm(self) -> None:
        with self._lock:
            self._deadline = math.inf

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed:
            self._next_look = deadline = self._deadline
            if self._deadline != deadline:
                continue
            self._wake.wait(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
            self._wake.clear()
            with self._lock:
                if time.monotonic() >= self._deadline:
                    self._deadline = math.inf
                    self.fired = True
                    self._on_late()
