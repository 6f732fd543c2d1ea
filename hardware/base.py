"""What every make of card does alike: leaving it by ``with``, and the bounds and views of its buffers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware.card import Array, View
from hardware.errors import FeedMismatch

Bytes = NDArray[np.uint8]


class Closing(ABC):
    """Closed at the end of a ``with`` block."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Releases(Protocol):
    """What a buffer tells the card it belongs to when it is closed."""

    def release(self, buffer: Any, /) -> None: ...


Owner = TypeVar("Owner", bound=Releases)


class BaseBuffer(Generic[Owner]):
    """``size_bytes`` of ``owner``'s memory, from ``address`` on. How bytes move is each card's own."""

    def __init__(self, owner: Owner, address: int, size_bytes: int) -> None:
        self.owner = owner
        self.address = address
        self.size_bytes = size_bytes
        self.is_open = True

    def view(self, offset_bytes: int = 0, size_bytes: int | None = None) -> View:
        """``size_bytes`` from ``offset_bytes`` on; by default all the rest. Raises FeedMismatch beyond it."""
        size = self.size_bytes - offset_bytes if size_bytes is None else size_bytes
        self.check(offset_bytes, size)
        return View(self, offset_bytes, size)  # type: ignore[arg-type]  # whoever inherits has the rest

    def close(self) -> None:
        """Give the memory back to the card. Closing twice is harmless."""
        if self.is_open:
            self.is_open = False
            self.owner.release(self)

    def check(self, offset_bytes: int, size_bytes: int) -> None:
        """Raises FeedMismatch unless the bytes lie within this open buffer."""
        if not self.is_open:
            raise FeedMismatch(f"the buffer at {self.address:#x} is closed")
        if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > self.size_bytes:
            raise FeedMismatch(
                f"bytes {offset_bytes} to {offset_bytes + size_bytes} leave a buffer of {self.size_bytes}"
            )


Buffer = TypeVar("Buffer", bound=BaseBuffer[Any])


def behind(view: View, owner: object, kind: type[Buffer]) -> Buffer:
    """The open buffer of ``owner`` behind ``view``, which lies within it. Raises FeedMismatch."""
    buffer: object = view.buffer
    if not isinstance(buffer, kind) or buffer.owner is not owner:
        raise FeedMismatch("the view belongs to another card")
    buffer.check(view.offset_bytes, view.size_bytes)
    return buffer


def bytes_of(data: Array | bytes) -> Bytes:
    """``data`` as ``uint8[n]``, copied only where it is an array that is not contiguous."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def bytes_into(target: Array) -> Bytes:
    """``target`` as ``uint8[n]`` to be written to. Raises FeedMismatch where that would be a copy."""
    if not target.flags.c_contiguous or not target.flags.writeable:
        raise FeedMismatch("read_into needs a writeable C-contiguous array")
    return target.reshape(-1).view(np.uint8)
