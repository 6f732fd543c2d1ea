"""Records in a memory-mapped file that are never seen half-written, not even when their writer is killed."""

from __future__ import annotations

import mmap
import struct
from zlib import crc32

_HEAD = struct.Struct("<QI4x")
_SEQUENCE = struct.Struct("<Q")
_ATTEMPTS = 1000


class SharedRecord:
    """``size`` bytes at ``offset``, kept in two slots that are written in turn.

    A slot carries a sequence number and a checksum over everything else. The reader takes the newest slot
    whose checksum is right; a writer that dies in the middle leaves the other slot, the last whole record.
    One writer at a time (it reads before it writes where writers take turns); any number of readers, without
    locks.
    """

    def __init__(self, pages: mmap.mmap, offset: int, size: int) -> None:
        self._pages = pages
        self._size = size
        stride = _HEAD.size + size
        self._offsets = (offset, offset + stride)
        self.sequence = 0
        self.read()

    @staticmethod
    def room(size: int) -> int:
        """Bytes of the file that a record of ``size`` takes."""
        return 2 * (_HEAD.size + size)

    def write(self, body: bytes) -> None:
        if len(body) != self._size:
            raise ValueError(f"the record has {self._size} bytes, not {len(body)}")
        self.sequence += 1
        sequence = _SEQUENCE.pack(self.sequence)
        at = self._offsets[self.sequence & 1]
        slot = _HEAD.pack(self.sequence, crc32(body, crc32(sequence))) + body
        self._pages[at : at + len(slot)] = slot

    def read(self) -> bytes | None:
        """The last whole record; None when none was ever written. ``sequence`` then tells which it was."""
        newest = self._newest()
        if newest is None:
            return None
        self.sequence, body = newest
        return body

    def has_news(self) -> bool:
        """Whether something was written since the last ``read`` or ``write`` here; half a microsecond."""
        first, second = self._offsets
        one: int = _SEQUENCE.unpack_from(self._pages, first)[0]
        two: int = _SEQUENCE.unpack_from(self._pages, second)[0]
        return max(one, two) != self.sequence

    def _newest(self) -> tuple[int, bytes] | None:
        for _ in range(_ATTEMPTS):
            slots = [self._slot(at) for at in self._offsets]
            whole = [slot for slot in slots if slot is not None and slot[0] > 0]
            if whole:
                return max(whole)
            if not any(_SEQUENCE.unpack_from(self._pages, at)[0] for at in self._offsets):
                return None
            # Both slots were being written while we looked: the writer was faster twice. Look again.
        return None

    def _slot(self, at: int) -> tuple[int, bytes] | None:
        slot = self._pages[at : at + _HEAD.size + self._size]
        sequence, checksum = _HEAD.unpack_from(slot)
        body = slot[_HEAD.size :]
        return (sequence, body) if crc32(body, crc32(slot[:8])) == checksum else None
