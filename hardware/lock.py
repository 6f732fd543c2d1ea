"""One process owns a card: an flock that its owner holds and that ends with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hardware.errors import CardBusy

_ATTEMPTS, _PAUSE_S = 6, 0.05
"""Someone who only asks whether a card is owned holds the lock for an instant (``is_held``)."""


class CardLock:
    """Taken on construction, given back by ``close`` or by the end of the process.

    Raises:
        CardBusy: another process holds it; the message names its process id.
    """

    def __init__(self, path: Path, card_id: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened close-on-exec (Python's default): a command we start must not inherit the card.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        for attempt in range(_ATTEMPTS):
            if _try_lock(self._descriptor, fcntl.LOCK_EX):
                break
            if attempt == _ATTEMPTS - 1:
                owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(self._descriptor)
                raise CardBusy(f"{card_id} belongs to process {owner or 'unknown'}")
            pause(_PAUSE_S)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)
    return False


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
