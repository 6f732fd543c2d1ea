"""What a running job is told between two steps: go on, rest or end, and which call into the card it is in."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType

from tasks.board import Ease, Hold
from tasks.engines import Verdict
from tasks.errors import Shutdown, TooHot
from tasks.events import Held, Resumed
from tasks.pace import Pace
from tasks.scribe import RETRY_S, Scribe

_RESTFUL = frozenset({"thermal", "telemetry", "operator", "card_lost"})
"""Holds that make a running job rest; the others (loading, starting) are the running job's own doing."""


stopping = threading.Event()
"""Set by the process's signal handlers: the running job is given back at its next step."""
pace = Pace()
"""The process's one card has one pace, whatever job it works on."""


class JobSignals:
    """``tasks.engines.Signals`` for one claim."""

    def __init__(self, scribe: Scribe, deadline: float | None, patience_s: float) -> None:
        self._scribe = scribe
        self._deadline = deadline
        self._patience_s = patience_s
        self.rested_s = 0.0
        self.call_since_ms: int | None = None
        self.call_limit_s: float | None = None

    @property
    def outage(self) -> bool:
        """Redis has not answered for longer than a job waits for it."""
        return time.monotonic() - self._scribe.orders.heard_at > self._patience_s

    def between_steps(self) -> Verdict:
        verdict = self.verdict()
        if verdict is not Verdict.GO_ON:
            return verdict
        hold, ease = self._hold(), self._scribe.orders.ease
        if hold is not None:
            return self._rest(hold)
        return verdict if ease is None and pace.is_full else self._ease(ease)

    def calling_card(self, limit_s: float) -> AbstractContextManager[None]:
        return _CardCall(self, self._scribe, limit_s)

    def verdict(self) -> Verdict:
        """What ``between_steps`` says, without resting. Raises Shutdown."""
        if stopping.is_set():
            raise Shutdown
        orders = self._scribe.orders
        if orders.lost or self.outage:
            return Verdict.LOST
        if orders.cancel is not None:
            return Verdict.CANCEL
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return Verdict.EXPIRE
        return Verdict.GO_ON

    def _hold(self) -> Hold | None:
        hold = self._scribe.orders.hold
        return hold if hold is not None and hold.reason in _RESTFUL else None

    def _ease(self, ease: Ease | None) -> Verdict:
        """Rest as long as the work since the last rest demands; ended by whatever ends a job."""
        now = time.monotonic()
        until = now + pace.rest_s(None if ease is None else ease.duty, now)
        verdict = Verdict.GO_ON
        while (
            verdict is Verdict.GO_ON
            and self._scribe.orders.ease is not None
            and (now := time.monotonic()) < until
        ):
            self._scribe.wait(min(until - now, RETRY_S))
            verdict = self.verdict()
        pace.rested(time.monotonic())
        return verdict

    def _rest(self, hold: Hold) -> Verdict:
        if hold.unload:
            raise TooHot
        since = time.monotonic()
        self._scribe.append(Held(hold.reason, hold.message))
        verdict = Verdict.GO_ON
        while verdict is Verdict.GO_ON and self._hold() is not None:
            self._scribe.wait(RETRY_S)
            verdict = self.verdict()
            hold = self._hold() or hold
            if hold.unload:
                raise TooHot
        pace.rested(time.monotonic())
        self.rested_s += time.monotonic() - since
        self._scribe.append(Resumed(hold.reason, int((time.monotonic() - since) * 1000)))
        return verdict


class _CardCall:
    """Entered tens of times per token: no generator, no allocation beyond itself."""

    __slots__ = ("_before", "_limit_s", "_scribe", "_signals")

    def __init__(self, signals: JobSignals, scribe: Scribe, limit_s: float) -> None:
        self._signals = signals
        self._scribe = scribe
        self._limit_s = limit_s
        self._before: tuple[float | None, int | None, float | None] = (None, None, None)

    def __enter__(self) -> None:
        signals, scribe = self._signals, self._scribe
        self._before = (scribe.call_deadline, signals.call_since_ms, signals.call_limit_s)
        scribe.call_deadline = time.monotonic() + self._limit_s
        signals.call_since_ms = int(time.time() * 1000)
        signals.call_limit_s = self._limit_s

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signals = self._signals
        self._scribe.call_deadline, signals.call_since_ms, signals.call_limit_s = self._before
