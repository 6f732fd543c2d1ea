"""Finding and opening libaxcl_rt.so."""

from __future__ import annotations

import ctypes.util
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cffi import FFI

from hardware.axcl.abi import FUNCTIONS, OPTIONAL, STRUCTS
from hardware.axcl.codes import Doing, error_of
from hardware.errors import CardLost

log = logging.getLogger("hearth.card")

DIRECTORY = Path("/usr/lib/axcl")
"""Where the vendor's packages put their libraries; their ldconfig entry may be missing."""
_NAMES = ("libaxcl_rt.so", "libaxcl_rt.so.1")
_NEEDED = ("spdlog", "axcl_logger", "axcl_comm", "axcl_token", "axcl_pkg")
"""What libaxcl_rt.so is linked against, in an order in which each finds its own."""

ffi = FFI()
ffi.cdef(STRUCTS + FUNCTIONS + "\n".join(OPTIONAL.values()))


class Library:
    """An opened libaxcl_rt.so: ``functions`` has them as attributes, the optional ones where ``has`` says so.

    Raises:
        CardLost: there is none, it cannot be opened, or it lacks a function; the message says which.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.functions = _open(candidates(path))
        # cffi looks a symbol up when it is first used; now is when a missing one is to be noticed.
        missing = [name for name in _required() if not self.has(name)]
        if missing:
            raise CardLost(
                f"{self.path} has no function {missing[0]}: this is not the AXCL runtime Hearth knows"
            )
        # ABI mode looks a symbol up at first use; now is when a missing one is to be noticed.
        self.is_simulated = self.has("hearth_axclsim")

    def has(self, name: str) -> bool:
        """Whether this version exports the function."""
        with suppress(AttributeError):
            return getattr(self.functions, name) is not None
        return False

    def check(self, function: str, result: int, doing: Doing) -> None:
        """Raises HardwareError unless ``result``, what ``function`` returned, is success."""
        if result:
            raise error_of(function, result, doing)

    def call(self, function: str, *arguments: Any, doing: Doing) -> None:
        """Call and check."""
        self.check(function, getattr(self.functions, function)(*arguments), doing)

    def number(self, function: str, kind: str, *arguments: Any, doing: Doing) -> int:
        """Call a function whose last argument is where it writes a number; that number."""
        place = ffi.new(f"{kind} *")
        self.call(function, *arguments, place, doing=doing)
        return int(place[0])

    def text(self, function: str, *arguments: Any) -> str:
        """What a function that gives a C string says; empty when it is missing or says nothing."""
        if not self.has(function):
            return ""
        told = getattr(self.functions, function)(*arguments)
        return "" if told == ffi.NULL else ffi.string(told).decode("utf-8", "replace")

    def devices(self) -> list[int]:
        """The ids of the connected devices, by the runtime's order. Raises CardLost."""
        found = ffi.new("axclrtDeviceList *")
        self.call("axclrtGetDeviceList", found, doing=Doing.OPENING)
        return [int(found.devices[at]) for at in range(found.num)]

    def version(self) -> str:
        """As the vendor writes it, ``V3.10.2_20251215140224``, or by its numbers alone."""
        full = self.text("axclrtGetFullVersion")
        if full or not self.has("axclrtGetVersion"):
            return full or "unknown"
        parts = [ffi.new("int32_t *") for _ in range(3)]
        self.call("axclrtGetVersion", *parts, doing=Doing.OPENING)
        return "V" + ".".join(str(part[0]) for part in parts)


def candidates(path: Path | None) -> list[Path]:
    """Where the library may be: where the settings say, or else where the vendor's packages put it."""
    if path is not None:
        return [path]
    found = [DIRECTORY / name for name in _NAMES if (DIRECTORY / name).exists()]
    named = ctypes.util.find_library("axcl_rt")
    return found + ([Path(named)] if named else [])


@lru_cache
def _required() -> tuple[str, ...]:
    return tuple(re.findall(r"\baxcl\w+(?=\()", FUNCTIONS))


def _open(paths: Sequence[Path]) -> tuple[Path, Any]:
    if not paths:
        raise CardLost(
            f"libaxcl_rt.so is not in {DIRECTORY} and ldconfig does not know it: install the vendor's axcl "
            "package, or set HEARTH_AXCL__LIBRARY to where it is"
        )
    problems = []
    for path in paths:
        try:
            return path, ffi.dlopen(str(path))
        except OSError as error:
            problems.append(str(error))
        # Its neighbours are found only through an ldconfig entry or LD_LIBRARY_PATH: try them by their paths.
        opened = _open_needed(path.parent)
        try:
            return path, ffi.dlopen(str(path))
        except OSError as error:
            problems.append(f"{error}, with {len(opened)} of its neighbours opened before")
    raise CardLost(f"libaxcl_rt.so cannot be opened: {problems[-1]}")


def _open_needed(directory: Path) -> list[Path]:
    opened = []
    for name in _NEEDED:
        for path in sorted(directory.glob(f"lib{name}.so*")):
            with suppress(OSError):
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
                opened.append(path)
                break
    return opened
