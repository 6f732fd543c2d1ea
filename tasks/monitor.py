"""The monitor's two beats. What they do is the worker room's affair, which fills in ``duties`` at boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.app import app


def _nothing() -> None:
    raise RuntimeError("this process has no duties: `hearth.poll` and `hearth.sweep` belong to the monitor")


@dataclass(slots=True)
class Duties:
    """``poll``: read the card's health, hold or release. ``sweep``: reap, publish the catalog."""

    poll: Callable[[], None] = _nothing
    sweep: Callable[[], None] = _nothing


duties = Duties()


@app.task(name="hearth.poll")
def poll() -> None:
    duties.poll()


@app.task(name="hearth.sweep")
def sweep() -> None:
    duties.sweep()
