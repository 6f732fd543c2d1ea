"""How an engine takes its leave when a verdict ends its job."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.engines import Verdict
from tasks.events import Cancelled, Event, Expired


def farewell(verdict: Verdict) -> Iterator[Event]:
    """The terminal event that a verdict asks for; none when the job is somebody else's by now."""
    if verdict is Verdict.CANCEL:
        yield Cancelled("requested")
    elif verdict is Verdict.EXPIRE:
        yield Expired()
