"""Card memory: buffers that are zero when handed out, and the one block that small transfers go through."""

from __future__ import annotations

import ctypes
import mmap
import time
from typing import TYPE_CHECKING

import numpy as np

from hardware.axcl.abi import DEVICE_TO_DEVICE, DEVICE_TO_HOST, HOST_TO_DEVICE
from hardware.base import BaseBuffer, Bytes, behind, bytes_into, bytes_of
from hardware.card import Array, View
from hardware.errors import CardLost

if TYPE_CHECKING:
    from hardware.axcl.card import AxclCard

STAGED_BYTES = 64 * 1024
"""Transfers up to this size go through the staging block. A larger one gains nothing from it."""
_WINDOW_BYTES = 4096
"""What is read back of the beginning, the middle and the end of fresh memory."""


class Staging:
    """One page-aligned block that the kernel need not find, fault in or pin anew for every small transfer.

    The runtime's own ``axclrtMallocHost`` is plain malloc in V3.10.2, so it is not asked.
    """

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, STAGED_BYTES)
        self.bytes: Bytes = np.frombuffer(self._pages, np.uint8)
        self.bytes[:: mmap.PAGESIZE] = 0  # so that every page is there
        self.pointer = int(self.bytes.ctypes.data)


class AxclBuffer(BaseBuffer["AxclCard"]):
    """A piece of CMM at ``address``."""

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        source = bytes_of(data)
        self.check(offset_bytes, source.size)
        self.owner.send(self.address + offset_bytes, source)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.check(offset_bytes, size_bytes)
        target = np.empty(size_bytes, np.uint8)
        self.owner.fetch(target, self.address + offset_bytes)
        return target.tobytes()

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        bytes_into(target)
        self.check(offset_bytes, target.nbytes)
        self.owner.fetch(target, self.address + offset_bytes)

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        self.check(offset_bytes, source.size_bytes)
        other = behind(source, self.owner, AxclBuffer)
        self.owner.copy(self.address + offset_bytes, other.address + source.offset_bytes, source.size_bytes)


class Bus:
    """Copies over the bus and within the card, counted. What goes wrong is raised by the card's ``check``."""

    def __init__(self, card: AxclCard) -> None:
        self._card = card
        self._copy = card.functions.axclrtMemcpy
        self.staging = Staging()

    def up(self, address: int, source: Bytes) -> None:
        size = source.size
        if size <= STAGED_BYTES:
            self.staging.bytes[:size] = source
            pointer = self.staging.pointer
        else:
            pointer = int(source.ctypes.data)
        self._card.copied("axclrtMemcpy", self._copy(address, pointer, size, HOST_TO_DEVICE))
        counters = self._card.counters
        counters.h2d_bytes += size
        counters.h2d_calls += 1

    def down(self, target: Array, address: int) -> None:
        size = target.nbytes
        if size <= STAGED_BYTES:
            code = self._copy(self.staging.pointer, address, size, DEVICE_TO_HOST)
            self._card.copied("axclrtMemcpy", code)
            target.reshape(-1).view(np.uint8)[:] = self.staging.bytes[:size]
        else:
            code = self._copy(int(target.ctypes.data), address, size, DEVICE_TO_HOST)
            self._card.copied("axclrtMemcpy", code)
        counters = self._card.counters
        counters.d2h_bytes += size
        counters.d2h_calls += 1

    def within(self, to: int, source: int, size: int) -> None:
        self._card.copied("axclrtMemcpy", self._copy(to, source, size, DEVICE_TO_DEVICE))
        counters = self._card.counters
        counters.d2d_bytes += size
        counters.d2d_calls += 1

    def zero(self, address: int, size: int, way: str) -> None:
        """Fill with zeros, by memset or by copying, and look whether it worked.

        Raises:
            CardLost: the memory holds something else whatever was tried.
        """
        if way != "copy":
            result = self._card.functions.axclrtMemset(address, 0, size)
            if way == "memset":
                self._card.copied("axclrtMemset", result)
            if not result and self._is_zero(address, size):
                return
        zeros = np.zeros(min(size, 4 << 20), np.uint8)
        for start in range(0, size, zeros.size):
            self.up(address + start, zeros[: size - start])
        if not self._is_zero(address, size):
            raise CardLost(
                f"the card's memory at {address:#x} does not keep the zeros that are written to it"
            )

    def _is_zero(self, address: int, size: int) -> bool:
        window = np.empty(min(size, _WINDOW_BYTES), np.uint8)
        for start in sorted({0, (size - window.size) // 2, size - window.size}):
            self.down(window, address + start)
            if window.any():
                return False
        return True

    def compare_staging(self, address: int, size: int = 5120, times: int = 8) -> tuple[float, float]:
        """Seconds that a small transfer takes from the staging block, and from fresh memory."""
        self.up(address, np.zeros(size, np.uint8))  # the first one is slower for reasons of its own
        began_s = time.perf_counter()
        for _ in range(times):
            self.up(address, np.zeros(size, np.uint8))
        staged_s = (time.perf_counter() - began_s) / times
        spent_s = 0.0
        for _ in range(times):
            fresh = ctypes.create_string_buffer(size)
            began_s = time.perf_counter()
            self._card.copied(
                "axclrtMemcpy", self._copy(address, ctypes.addressof(fresh), size, HOST_TO_DEVICE)
            )
            spent_s += time.perf_counter() - began_s
        return staged_s, spent_s / times
