"""The pace of a warm card: so much rest for so much work. Pure; over all jobs of one process."""

from __future__ import annotations

LEAST_REST_S = 0.02
"""Shorter rests are saved up: a token should not pay for a hundred wake-ups."""
MOST_REST_S = 30.0
"""A call that took minutes (a model was loaded) is not paid for in full: an order of rest is seconds old."""


class Pace:
    """Counts the work since the last rest. All times are monotonic seconds.

    Work counts from the first step under an order to ease, until the order ends; what one job still owes, the
    next one pays, less the time in which nobody worked.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._owed_s = 0.0
        self._duty = 1.0
        self._ended: float | None = None

    @property
    def is_full(self) -> bool:
        """Nothing is counted and nothing owed: without an order to ease there is nothing to ask."""
        return self._since is None and self._owed_s == 0.0

    def begin(self, now: float) -> None:
        """A job begins: whatever passed since the last one was rest."""
        if self._ended is not None:
            self._owed_s = max(0.0, self._owed_s - (now - self._ended))
            self._since = now if self._since is not None else None
        self._ended = None

    def rest_s(self, duty: float | None, now: float) -> float:
        """How long to rest now, 0 for not yet. ``duty`` (0 to 1) None: nobody asks for rests any more."""
        if duty is None:
            self._since, self._owed_s = None, 0.0
            return 0.0
        if self._since is not None:
            owed_s = self._owed_s + max(0.0, now - self._since) * (1.0 / duty - 1.0)
            self._owed_s = min(owed_s, MOST_REST_S)
        self._since = now
        self._duty = duty
        return 0.0 if self._owed_s < LEAST_REST_S else self._owed_s

    def rested(self, now: float) -> None:
        """A rest has ended, for whatever reason: so much less is owed."""
        if self._since is not None:
            self._owed_s = max(0.0, self._owed_s - (now - self._since))
            self._since = now

    def end(self, now: float) -> None:
        """The job has ended; what it worked since its last step is owed by the next one."""
        if self._since is not None:
            self.rest_s(self._duty, now)
        self._ended = now
