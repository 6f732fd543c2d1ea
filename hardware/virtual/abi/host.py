"""The Python side of the simulated library: what its trampolines jump to.

The library calls ``attach`` in the interpreter of the process it was loaded into, whoever's program that is;
so nothing here asks for more than numpy and onnxruntime.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hardware.virtual.abi.codes import FAIL, NULL_POINTER, Fail, Misuse, Part
from hardware.virtual.abi.exports import EXPORTS, Argument, Export
from hardware.virtual.abi.opened import FUNCTIONS
from hardware.virtual.abi.options import Mode, read_options
from hardware.virtual.abi.runtime import Runtime
from hardware.virtual.abi.structs import Counters, DeviceList, DeviceProperties, IoDims

KINDS: dict[str, Any] = {
    "axclError": ctypes.c_int32,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "uint8_t": ctypes.c_uint8,
    "axclrtDeviceList": DeviceList,
    "axclrtEngineIODims": IoDims,
    "axclrtDeviceProperties": DeviceProperties,
    "axclsimCounters": Counters,
}
"""C types by value; what is not here is a pointer or a handle."""

_STRUCTS = (DeviceList, IoDims, DeviceProperties, Counters)
_VALUES = ("uint32_t", "uint64_t")
_UNFORESEEN = Fail(Part.DEVICE, FAIL, "").code
_NULL = Fail(Part.DEVICE, NULL_POINTER, "").code

LOG_VARIABLE = "AXCLSIM_LOG"
"""When set, what fails is written to stderr."""

_thunks: list[Any] = []
_runtime: Runtime | None = None


def _ignore(name: str) -> object:
    return None


on_call: Callable[[str], object] = _ignore
on_return: Callable[[str], object] = _ignore
"""Called with the name of each function that begins, and that ends. Tests listen here."""


def attach(table: int, size: int) -> None:
    """Fill the library's table of ``size`` function pointers. Attaching again is harmless."""
    if size != len(EXPORTS):
        raise RuntimeError(
            f"the library was built from {size} functions, these are {len(EXPORTS)}: build it anew"
        )
    slots = (ctypes.POINTER(ctypes.c_void_p) * size).from_address(table)
    for slot, export in zip(slots, EXPORTS, strict=True):
        thunk = _prototype(export)(_answering(export))
        # Destructors of the program call us after the interpreter has cleared our module: they stay for good.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thunk))
        _thunks.append(thunk)
        slot[0] = ctypes.cast(thunk, ctypes.c_void_p).value


def runtime() -> Runtime:
    """The runtime of this process. After its end, and in a fork, it begins anew and reads its options."""
    global _runtime
    if _runtime is None or _runtime.is_over or _runtime.pid != os.getpid():
        _runtime = Runtime(read_options())
    return _runtime


def restart() -> None:
    """Forget everything as if the process were a fresh one. For tests, which lose cards."""
    global _runtime
    if _runtime is not None and _runtime.pid == os.getpid():
        _runtime.abandon()
    _runtime = None


def _prototype(export: Export) -> Any:
    arguments = [ctypes.c_void_p if each.is_out else _kind_of(each) for each in export.arguments]
    gives = ctypes.c_void_p if "char" in export.gives else KINDS[export.gives]
    return ctypes.CFUNCTYPE(gives, *arguments)


def _kind_of(argument: Argument) -> Any:
    if argument.kind == "const char *":
        return ctypes.c_char_p
    return KINDS.get(argument.kind, ctypes.c_void_p)


def _answering(export: Export) -> Callable[..., int]:
    function = FUNCTIONS[export.name]
    if "char" in export.gives:
        return _telling(export, lambda given: runtime().text(function(runtime(), *given)), 0)
    if export.gives in _VALUES or export.name.endswith("IndexByName"):
        return _telling(export, lambda given: int(function(runtime(), *given)), 0)
    outs = [at for at, each in enumerate(export.arguments) if each.is_out]
    if not outs:
        return _telling(export, lambda given: function(runtime(), *given) or 0, None)
    return _telling(export, _writing(export, function, outs), None)


def _writing(export: Export, function: Callable[..., Any], outs: list[int]) -> Callable[[Any], int]:
    kinds = [KINDS.get(export.arguments[at].kind, ctypes.c_void_p) for at in outs]

    def answer(given: tuple[Any, ...]) -> int:
        places = [given[at] for at in outs]
        if not all(places):
            return _NULL
        made = function(runtime(), *(value for at, value in enumerate(given) if at not in outs))
        for place, kind, value in zip(places, kinds, made if len(outs) > 1 else [made], strict=True):
            if kind in _STRUCTS:
                ctypes.memmove(place, ctypes.byref(value), ctypes.sizeof(kind))
            else:
                kind.from_address(place).value = value
        return 0

    return answer


def _telling(export: Export, answer: Callable[[Any], int], otherwise: int | None) -> Callable[..., int]:
    """What the function gives; ``otherwise``, or a code where that is None, when it fails."""

    def call(*given: Any) -> int:
        on_call(export.name)
        try:
            return answer(given)
        except Misuse as error:
            _complain(export, error)
            is_silent = runtime().options.mode is Mode.SILENT
            code = 0 if is_silent else error.code
        except Fail as error:
            _complain(export, error)
            code = error.code
        except Exception:  # a mistake of ours must not pass for a success
            traceback.print_exc()
            code = _UNFORESEEN
        finally:
            on_return(export.name)
        return code if otherwise is None else otherwise

    return call


def _complain(export: Export, error: Fail) -> None:
    """A line as the vendor's runtime logs it, where the vendor's shows it: on the error channel."""
    if os.environ.get(LOG_VARIABLE):
        sys.stderr.write(f"[E][sim][{export.name}]: {error} ({error.code & 0xFFFFFFFF:#x})\n")
