"""Card memory: what ``VirtualCard.allocate`` hands out, and how views of it become plain bytes."""

from __future__ import annotations

import mmap
from typing import Protocol

import numpy as np

from hardware.base import BaseBuffer, Bytes, behind, bytes_into, bytes_of
from hardware.card import Array, View


class Bus(Protocol):
    """What a buffer tells its card: every transfer is allowed, counted and timed there."""

    def begin(self) -> None:
        """Raises CardLost when the card is gone."""
        ...

    def moved_up(self, size_bytes: int) -> None: ...

    def moved_down(self, size_bytes: int) -> None: ...

    def moved_within(self, size_bytes: int) -> None: ...

    def release(self, buffer: VirtualBuffer, /) -> None: ...


class VirtualBuffer(BaseBuffer[Bus]):
    """Zero pages of the host that stand for a piece of card memory at ``address``.

    The pages are the operating system's: a page nobody wrote to takes no memory, however large the buffer.
    """

    def __init__(self, bus: Bus, address: int, size_bytes: int) -> None:
        super().__init__(bus, address, size_bytes)
        pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes: Bytes = np.frombuffer(pages, np.uint8)
        self.pointer: int = self.bytes.ctypes.data

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        self.owner.begin()
        source = bytes_of(data)
        self._window(offset_bytes, source.size)[:] = source
        self.owner.moved_up(source.size)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.owner.begin()
        data = self._window(offset_bytes, size_bytes).tobytes()
        self.owner.moved_down(size_bytes)
        return data

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        self.owner.begin()
        bytes_into(target)[:] = self._window(offset_bytes, target.nbytes)
        self.owner.moved_down(target.nbytes)

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        self.owner.begin()
        window = self._window(offset_bytes, source.size_bytes)
        window[:] = behind(source, self.owner, VirtualBuffer)._window(source.offset_bytes, source.size_bytes)
        self.owner.moved_within(source.size_bytes)

    def close(self) -> None:
        if self.is_open:
            # The pages go with the last step that still refers to them.
            self.bytes = np.empty(0, np.uint8)
        super().close()

    def _window(self, offset_bytes: int, size_bytes: int) -> Bytes:
        self.check(offset_bytes, size_bytes)
        return self.bytes[offset_bytes : offset_bytes + size_bytes]
