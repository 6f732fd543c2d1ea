"""A page of memory that parent and child of worker-npu share: made before the fork, read without a call."""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum

_SIZE_BYTES = 4096
_DRAINING, _STAGE, _LENGTH, _SETTLING, _DEATH, _TEXT = 0, 1, 2, 4, 6, 8
_LENGTH_FORMAT = "<H"
_DEATH_FORMAT = "<h"


class Stage(IntEnum):
    """How far the child is. ``FAILED`` is for good: the card cannot be had, so the parent leaves too."""

    STARTING = 0
    READY = 1
    FAILED = 2


class Link:
    """What the two tell one another. The parent drains; the child goes through its stages.

    ``text`` belongs to the stage: the card's id when ready, the reason in one line when failed.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE_BYTES)

    @property
    def is_draining(self) -> bool:
        return self._page[_DRAINING] != 0

    def drain(self) -> None:
        """Tell the child to stop at the next step. One byte, so a signal handler may call it."""
        self._page[_DRAINING] = 1

    @property
    def is_settling(self) -> bool:
        """A child is loading ahead of its jobs, or an earlier one died at that."""
        return self._page[_SETTLING] != 0

    def settling(self, now: bool) -> None:
        self._page[_SETTLING] = now

    @property
    def stage(self) -> Stage:
        return Stage(self._page[_STAGE])

    @property
    def text(self) -> str:
        (length,) = struct.unpack_from(_LENGTH_FORMAT, self._page, _LENGTH)
        return self._page[_TEXT : _TEXT + length].decode("utf-8", errors="replace")

    @property
    def death(self) -> int | None:
        """The exit code of the child before this one, negative for a signal; None where there was none."""
        (code,) = struct.unpack_from(_DEATH_FORMAT, self._page, _DEATH)
        return code or None

    def died(self, exit_code: int) -> None:
        """Called in the parent, before the next child is made."""
        struct.pack_into(_DEATH_FORMAT, self._page, _DEATH, exit_code)

    def restart(self) -> None:
        """Called in the parent, before a child is made."""
        self._page[_STAGE] = Stage.STARTING

    def ready(self, card_id: str) -> None:
        self._tell(Stage.READY, card_id)

    def fail(self, reason: str) -> None:
        self._tell(Stage.FAILED, reason)

    def _tell(self, stage: Stage, text: str) -> None:
        # The text is whole before the stage says so.
        data = " ".join(text.split()).encode()[: _SIZE_BYTES - _TEXT]
        struct.pack_into(_LENGTH_FORMAT, self._page, _LENGTH, len(data))
        self._page[_TEXT : _TEXT + len(data)] = data
        self._page[_STAGE] = stage
