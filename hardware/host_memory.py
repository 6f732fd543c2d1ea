"""Buffers in the host's memory, for a card that keeps nothing between two runs."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hardware.base import BaseBuffer, Bytes, behind, bytes_into, bytes_of
from hardware.card import Array, View


class Owner(Protocol):
    """The card a buffer belongs to."""

    def begin(self) -> None:
        """Raises CardLost when the card is gone."""
        ...

    def release(self, buffer: HostBuffer, /) -> None: ...


class HostBuffer(BaseBuffer[Owner]):
    """Zero-filled. ``address`` is made up: it tells buffers apart, no more."""

    def __init__(self, owner: Owner, address: int, size_bytes: int) -> None:
        super().__init__(owner, address, size_bytes)
        self.bytes: Bytes = np.zeros(size_bytes, np.uint8)

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        self.owner.begin()
        source = bytes_of(data)
        self.window(offset_bytes, source.size)[:] = source

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.owner.begin()
        return self.window(offset_bytes, size_bytes).tobytes()

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        self.owner.begin()
        bytes_into(target)[:] = self.window(offset_bytes, target.nbytes)

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        self.owner.begin()
        window = self.window(offset_bytes, source.size_bytes)
        window[:] = behind(source, self.owner, HostBuffer).window(source.offset_bytes, source.size_bytes)

    def close(self) -> None:
        if self.is_open:
            self.bytes = np.zeros(0, np.uint8)
        super().close()

    def window(self, offset_bytes: int, size_bytes: int) -> Bytes:
        """Raises FeedMismatch unless the bytes lie within this open buffer."""
        self.check(offset_bytes, size_bytes)
        return self.bytes[offset_bytes : offset_bytes + size_bytes]
