"""Functions of the simulated runtime: memory of the device and of the host, and copies."""

from __future__ import annotations

import ctypes

from hardware.virtual.abi.codes import FAIL, ILLEGAL_PARAM, NULL_POINTER, UNSUPPORTED, Fail, Misuse, Part
from hardware.virtual.abi.opened import Opened, does

_COPY_WAYS = {1: "h2d", 2: "d2h", 3: "d2d"}


class Memory(Opened):
    """Addresses are the device's own; a copy looks both ends up."""

    @does("axclrtMalloc")
    def malloc(self, size: int, policy: int) -> int:
        return self._here().allocate(size)

    @does("axclrtMallocCached")
    def malloc_cached(self, size: int, policy: int) -> int:
        return self._here().allocate(size)

    @does("axclrtFree")
    def free(self, address: int | None) -> None:
        device = self._here()
        device.hang_if_dead()
        device.begin()
        device.free(address or 0)

    @does("axclrtMallocHost")
    def malloc_host(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        self._host[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    @does("axclrtFreeHost")
    def free_host(self, address: int | None) -> None:
        if self._host.pop(address or 0, None) is None:
            raise Misuse(Part.MEMORY, ILLEGAL_PARAM, "this is no memory of the host's")

    @does("axclrtMemFlush")
    def flush(self, address: int | None, size: int) -> None:
        self._here().start_of(address or 0, size)

    @does("axclrtMemInvalidate")
    def invalidate(self, address: int | None, size: int) -> None:
        self._here().start_of(address or 0, size)

    @does("axclrtMemset")
    def memset(self, address: int | None, value: int, size: int) -> None:
        self._here().set(address or 0, value, size)

    @does("axclrtMemcpy")
    def memcpy(self, to: int | None, source: int | None, size: int, kind: int) -> None:
        device = self._here()
        device.begin()
        if not to or not source:
            raise Misuse(Part.MEMORY, NULL_POINTER, "memcpy of NULL")
        way = _COPY_WAYS.get(kind)
        if way is None:
            raise Misuse(Part.MEMORY, UNSUPPORTED, f"memcpy of kind {kind}")
        if way != "h2d":
            device.start_of(source, size)
            source = device.pointer(source)
        if way != "d2h":
            device.start_of(to, size)
            to = device.pointer(to)
        ctypes.memmove(to, source, size)
        device.moved(way, size)

    @does("axclrtMemcmp")
    def memcmp(self, one: int | None, other: int | None, size: int) -> None:
        device = self._here()
        device.begin()
        pointers = []
        for address in (one or 0, other or 0):
            device.start_of(address, size)
            pointers.append(device.pointer(address))
        if ctypes.string_at(pointers[0], size) != ctypes.string_at(pointers[1], size):
            raise Fail(Part.MEMORY, FAIL, "the memories differ")
