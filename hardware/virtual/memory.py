"""Card memory: what ``VirtualCard.allocate`` hands out, and how views of it become plain bytes."""

from __future__ import annotations

import mmap
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.card import Array, View
from hardware.errors import FeedMismatch

Bytes = NDArray[np.uint8]


class Bus(Protocol):
    """What a buffer tells its card: every transfer is allowed, counted and timed there."""

    def begin(self) -> None:
        """Raises CardLost when the card is gone."""
        ...

    def moved_up(self, size_bytes: int) -> None: ...

    def moved_down(self, size_bytes: int) -> None: ...

    def moved_within(self, size_bytes: int) -> None: ...

    def release(self, buffer: VirtualBuffer) -> None: ...


class VirtualBuffer:
    """Zero pages of the host that stand for a piece of card memory at ``address``.

    The pages are the operating system's: a page nobody wrote to takes no memory, however large the buffer.
    """

    def __init__(self, bus: Bus, address: int, size_bytes: int) -> None:
        self._bus = bus
        self._address = address
        self._size_bytes = size_bytes
        self.is_open = True
        pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes: Bytes = np.frombuffer(pages, np.uint8)
        self.pointer: int = self.bytes.ctypes.data

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def address(self) -> int:
        return self._address

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        self._bus.begin()
        source = _bytes_of(data)
        self._window(offset_bytes, source.size)[:] = source
        self._bus.moved_up(source.size)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._bus.begin()
        data = self._window(offset_bytes, size_bytes).tobytes()
        self._bus.moved_down(size_bytes)
        return data

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        self._bus.begin()
        if not target.flags.c_contiguous or not target.flags.writeable:
            raise FeedMismatch("read_into needs a writeable C-contiguous array")
        target.reshape(-1).view(np.uint8)[:] = self._window(offset_bytes, target.nbytes)
        self._bus.moved_down(target.nbytes)

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        self._bus.begin()
        window = self._window(offset_bytes, source.size_bytes)
        window[:] = resolve(source, self._bus)._window(source.offset_bytes, source.size_bytes)
        self._bus.moved_within(source.size_bytes)

    def view(self, offset_bytes: int = 0, size_bytes: int | None = None) -> View:
        size = self._size_bytes - offset_bytes if size_bytes is None else size_bytes
        self.check(offset_bytes, size)
        return View(self, offset_bytes, size)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            # The pages go with the last step that still refers to them.
            self.bytes = np.empty(0, np.uint8)
            self._bus.release(self)

    def belongs_to(self, bus: Bus) -> bool:
        return self._bus is bus

    def _window(self, offset_bytes: int, size_bytes: int) -> Bytes:
        self.check(offset_bytes, size_bytes)
        return self.bytes[offset_bytes : offset_bytes + size_bytes]

    def check(self, offset_bytes: int, size_bytes: int) -> None:
        """Raises FeedMismatch unless the bytes lie within this open buffer."""
        if not self.is_open:
            raise FeedMismatch(f"the buffer at {self._address:#x} is closed")
        if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > self._size_bytes:
            raise FeedMismatch(
                f"bytes {offset_bytes} to {offset_bytes + size_bytes} leave a buffer of {self._size_bytes}"
            )


def resolve(view: View, bus: Bus) -> VirtualBuffer:
    """The open buffer of this card behind ``view``, which lies within it. Raises FeedMismatch."""
    buffer = view.buffer
    if not isinstance(buffer, VirtualBuffer) or not buffer.belongs_to(bus):
        raise FeedMismatch("the view belongs to another card")
    buffer.check(view.offset_bytes, view.size_bytes)
    return buffer


def _bytes_of(data: Array | bytes) -> Bytes:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)
