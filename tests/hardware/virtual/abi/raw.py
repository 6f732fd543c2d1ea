"""A C program's view of a libaxcl_rt.so: ctypes, the vendor's signatures, and no knowledge of ours."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

FAILED, NO_CONTEXT, NOT_DEVICE_MEMORY = 0x8030_0101, 0x8030_0284, 0x8030_0581
ILLEGAL, BAD_INDEX, NO_MEMORY = 0x8030_0703, 0x8030_0781, 0x8030_0707
UP, DOWN, WITHIN = 1, 2, 3


class Raw:
    """Calls by name; sizes and addresses are passed as 64 bits. Results are unsigned codes."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def __call__(self, name: str, *arguments: Any) -> int:
        function = getattr(self._library, name)
        function.restype = ctypes.c_uint32
        return int(function(*map(_wide, arguments)))

    def number(self, name: str, *arguments: Any) -> int:
        """What the function writes to its last argument, which is 64 bits wide. Fails on an error."""
        place = ctypes.c_uint64(0)
        code = self(name, *arguments, ctypes.byref(place))
        assert code == 0, f"{name}: {code:#x}"
        return place.value

    def value(self, name: str, *arguments: Any) -> int:
        """What a function that gives 64 bits gives."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_uint64
        return int(function(*map(_wide, arguments)))

    def text(self, name: str, *arguments: Any) -> bytes:
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        return bytes(function(*map(_wide, arguments)))

    def open(self, device: int = 1) -> None:
        for name, *arguments in (("axclInit", None), ("axclrtSetDevice", device), ("axclrtEngineInit", 0)):
            assert self(name, *arguments) == 0

    def malloc(self, size: int) -> int:
        place = ctypes.c_uint64(0)
        code = self("axclrtMalloc", ctypes.byref(place), size, 0)
        assert code == 0, hex(code)
        return place.value

    def put(self, address: int, data: bytes) -> int:
        return self("axclrtMemcpy", address, data, len(data), UP)

    def get(self, address: int, size: int) -> bytes:
        target = ctypes.create_string_buffer(size)
        code = self("axclrtMemcpy", ctypes.addressof(target), address, size, DOWN)
        assert code == 0, hex(code)
        return target.raw

    def has(self, name: str) -> bool:
        return hasattr(self._library, name)


def _wide(argument: Any) -> Any:
    return ctypes.c_uint64(argument) if isinstance(argument, int) else argument
