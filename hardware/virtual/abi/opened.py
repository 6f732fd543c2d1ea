"""What one process has opened of the simulated runtime: contexts by thread, and everything by its handle."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from hardware.virtual.abi.codes import (
    FAIL,
    ILLEGAL_PARAM,
    INVALID_ID,
    NO_BIND_CONTEXT,
    NO_CONNECT,
    Fail,
    Misuse,
    Part,
)
from hardware.virtual.abi.device import Device
from hardware.virtual.abi.engine import Io, Model
from hardware.virtual.abi.options import SimOptions, device_id
from hardware.virtual.state import CardState, Fault

Function = Callable[..., Any]
Thing = TypeVar("Thing")
FUNCTIONS: dict[str, Function] = {}
"""The vendor's names → the methods that do their work."""

_FIRST_HANDLE = 0x5100_0000_0000
_strings: dict[str, Any] = {}


def does(name: str) -> Callable[[Function], Function]:
    """Mark a method as what does the work of the vendor's function ``name``.

    Such a method takes what the function is given, returns what it writes or gives, and raises Fail.
    """

    def mark(function: Function) -> Function:
        FUNCTIONS[name] = function
        return function

    return mark


@dataclass(eq=False)
class Stream:
    """Executions in order, run when somebody waits for them."""

    device: Device
    work: list[tuple[Io, int]] = field(default_factory=list)


class Opened:
    """The things of one process, and the ways to find them."""

    def __init__(self, options: SimOptions) -> None:
        self.options = options
        self.pid = os.getpid()
        self._is_ready = False
        self.is_over = False
        self._handles = count(_FIRST_HANDLE, 16)
        self._ids = count(1)
        self._devices: dict[int, Device] = {}
        self._contexts: dict[int, Device] = {}
        self._defaults: dict[int, int] = {}
        self._bound = threading.local()
        self._has_engine = False
        self._streams: dict[int, Stream] = {}
        self._models: dict[int, Model] = {}
        self._infos: dict[int, Model] = {}
        self._ios: dict[int, Io] = {}
        self._engine_contexts: dict[int, int] = {}
        self._host: dict[int, Any] = {}
        self._has_language_model: set[int] = set()

    def abandon(self) -> None:
        """Give the devices back as the end of the process would."""
        for device in self._devices.values():
            device.close()
        self._devices.clear()

    def text(self, value: str) -> int:
        """The address of a C string that stays."""
        if value not in _strings:
            _strings[value] = ctypes.create_string_buffer(value.encode())
        return ctypes.addressof(_strings[value])

    def _check_ready(self) -> None:
        if not self._is_ready:
            raise Misuse(Part.DEVICE, FAIL, "axclInit was not called")

    def _check_engine(self) -> None:
        self._here()
        if not self._has_engine:
            raise Misuse(Part.ENGINE, FAIL, "axclrtEngineInit was not called")

    def _present(self) -> list[int]:
        self._check_ready()
        numbers = []
        for index in range(self.options.devices):
            state = CardState.open(self.options.state, index)
            if state.orders().fault is not Fault.LOST:
                numbers.append(device_id(index))
            state.close()
        return numbers

    def _index(self, number: int) -> int:
        for index in range(self.options.devices):
            if device_id(index) == number:
                return index
        raise Fail(Part.DEVICE, INVALID_ID, f"there is no device {number}")

    def _default_context(self, number: int) -> int:
        if number not in self._defaults:
            self._defaults[number] = self._open_context(number)
        return self._defaults[number]

    def _open_context(self, number: int) -> int:
        self._check_ready()
        index = self._index(number)
        if number not in self._present():
            raise Fail(Part.DEVICE, NO_CONNECT, f"device {number} is not connected")
        if number not in self._devices:
            self._devices[number] = Device(self.options, index)
        handle = next(self._handles)
        self._contexts[handle] = self._devices[number]
        return handle

    def _drop_device(self, device: Device) -> None:
        self._contexts = {handle: each for handle, each in self._contexts.items() if each is not device}
        self._defaults.pop(device.id, None)
        self._models = {number: each for number, each in self._models.items() if each.device is not device}
        del self._devices[device.id]
        device.close()

    def _device(self, number: int) -> Device:
        self._check_ready()
        if number not in self._devices:
            raise Misuse(Part.DEVICE, INVALID_ID, f"device {number} is not open")
        return self._devices[number]

    def _here(self) -> Device:
        """The device of the calling thread."""
        device = self._contexts.get(getattr(self._bound, "context", 0))
        if device is None:
            raise Misuse(Part.CONTEXT, NO_BIND_CONTEXT, "the thread has no context")
        return device

    def _model(self, number: int) -> Model:
        return _found(self._models, number, "model")

    def _info(self, handle: int | None) -> Model:
        return _found(self._infos, handle, "IO info")

    def _io(self, handle: int | None) -> Io:
        return _found(self._ios, handle, "IO")

    def _stream(self, handle: int | None) -> Stream:
        return _found(self._streams, handle, "stream")


def _found(things: Mapping[int, Thing], handle: int | None, what: str) -> Thing:
    found = things.get(handle or 0)
    if found is None:
        raise Misuse(Part.ENGINE, ILLEGAL_PARAM, f"there is no {what} {handle}")
    return found
