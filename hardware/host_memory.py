"""Buffers in the host's memory, for a card that keeps nothing between two runs."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.card import Array, View
from hardware.errors import FeedMismatch


class Owner(Protocol):
    """The card a buffer belongs to."""

    def begin(self) -> None:
        """Raises CardLost when the card is gone."""
        ...

    def release(self, buffer: HostBuffer) -> None: ...


class HostBuffer:
    """Zero-filled. ``address`` is made up: it tells buffers apart, no more."""

    def __init__(self, owner: Owner, address: int, size_bytes: int) -> None:
        self._owner = owner
        self._address = address
        self.bytes: NDArray[np.uint8] = np.zeros(size_bytes, np.uint8)
        self._size_bytes = size_bytes
        self.is_open = True

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def address(self) -> int:
        return self._address

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        self._owner.begin()
        source = (
            np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            if isinstance(data, np.ndarray)
            else np.frombuffer(data, np.uint8)
        )
        self.window(offset_bytes, source.size)[:] = source

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._owner.begin()
        return self.window(offset_bytes, size_bytes).tobytes()

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        self._owner.begin()
        if not target.flags.c_contiguous or not target.flags.writeable:
            raise FeedMismatch("read_into needs a writeable C-contiguous array")
        target.reshape(-1).view(np.uint8)[:] = self.window(offset_bytes, target.nbytes)

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        self._owner.begin()
        window = self.window(offset_bytes, source.size_bytes)
        window[:] = resolve(source, self._owner).window(source.offset_bytes, source.size_bytes)

    def view(self, offset_bytes: int = 0, size_bytes: int | None = None) -> View:
        size = self._size_bytes - offset_bytes if size_bytes is None else size_bytes
        self.window(offset_bytes, size)
        return View(self, offset_bytes, size)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.bytes = np.zeros(0, np.uint8)
            self._owner.release(self)

    def belongs_to(self, owner: Owner) -> bool:
        return self._owner is owner

    def window(self, offset_bytes: int, size_bytes: int) -> NDArray[np.uint8]:
        """Raises FeedMismatch unless the bytes lie within this open buffer."""
        if not self.is_open:
            raise FeedMismatch(f"the buffer at {self._address:#x} is closed")
        if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > self._size_bytes:
            raise FeedMismatch(
                f"bytes {offset_bytes} to {offset_bytes + size_bytes} leave a buffer of {self._size_bytes}"
            )
        return self.bytes[offset_bytes : offset_bytes + size_bytes]


def resolve(view: View, owner: Owner) -> HostBuffer:
    """The open buffer of this card behind ``view``, which lies within it. Raises FeedMismatch."""
    buffer = view.buffer
    if not isinstance(buffer, HostBuffer) or not buffer.belongs_to(owner):
        raise FeedMismatch("the view belongs to another card")
    buffer.window(view.offset_bytes, view.size_bytes)
    return buffer
