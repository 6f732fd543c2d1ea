"""Ctrl-C while a job is being submitted: it counts once it is known what there is to cancel."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Held:
    """Whether Ctrl-C came meanwhile."""

    def __init__(self) -> None:
        self._came = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """A second one does not wait: the server may not be answering at all."""
        if self._came:
            raise KeyboardInterrupt
        self._came = True

    def release(self) -> None:
        """Raises KeyboardInterrupt if it came."""
        if self._came:
            raise KeyboardInterrupt


@contextmanager
def holding_interrupts() -> Iterator[Held]:
    """Within the block the first Ctrl-C is only noted; ``release`` it where it can be dealt with."""
    held = Held()
    before = signal.signal(signal.SIGINT, held.note)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)
