"""The runtime opened for one device, and closed again in the order it wants."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from config.groups import AxclSettings
from hardware.axcl.abi import WHOLE_NPU
from hardware.axcl.codes import ADVICE, NO_DEVICE, Doing, error_of
from hardware.axcl.library import Library, ffi
from hardware.errors import CardLost, HardwareError

log = logging.getLogger("hearth.card")

_LOOK_S = 0.5
_open: list[Session] = []
"""Those of this process. The runtime is opened by the first and closed by the last of them."""
_speaking: Session | None = None
"""Whose context the thread has."""


class Session:
    """From ``axclInit`` to ``axclFinalize``: the device at ``index`` of the runtime's list, with its engine.

    All of it belongs to the thread that opens it. Where a process has several, ``speak`` says for whom the
    next calls are.

    Raises:
        CardLost: the driver, the device or its engine is not there; the message says what to do.
    """

    def __init__(
        self,
        library: Library,
        options: AxclSettings,
        index: int,
        directory: Path,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._library = library
        self._has_engine = False
        self.device = -1
        if not _open:
            config = config_file(options, directory)
            told = ffi.NULL if config is None else str(config).encode()
            library.call("axclInit", told, doing=Doing.OPENING)
        _open.append(self)
        try:
            if library.has("axclSetLogLevel"):
                library.functions.axclSetLogLevel(options.log_level)
            self.device = self._find(index, options.wait_s, pause)
            library.call("axclrtSetDevice", self.device, doing=Doing.OPENING)
            self._context = library.number("axclrtGetCurrentContext", "uintptr_t", doing=Doing.OPENING)
            self._start_engine()
            _now_speaks(self)
        except BaseException:
            self.close()
            raise

    def _find(self, index: int, wait_s: float, pause: Callable[[float], None]) -> int:
        """The device's id. A card that has just been powered takes a while until it shows."""
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                devices = self._library.devices()
                problem = f"there is no card {index}: the runtime knows {len(devices)}"
            except CardLost as error:
                devices, problem = [], str(error)
            if index < len(devices):
                return devices[index]
            if time.monotonic() >= deadline_s:
                advice = "" if devices or ADVICE[NO_DEVICE] in problem else f". {ADVICE[NO_DEVICE]}"
                raise CardLost(problem + advice)
            pause(_LOOK_S)

    def _start_engine(self) -> None:
        """A second start in a process may be refused; then the engine must be there as a whole already."""
        result = self._library.functions.axclrtEngineInit(WHOLE_NPU)
        if result:
            refused = error_of("axclrtEngineInit", result, Doing.OPENING)
            try:
                kind = self._library.number("axclrtEngineGetVNpuKind", "int", doing=Doing.OPENING)
            except HardwareError:
                raise refused from None
            if kind != WHOLE_NPU:
                raise CardLost(f"{refused}; and the engine is divided into virtual ones (kind {kind})")
            log.info("the engine was there already (%s)", refused)
        self._has_engine = True

    def speak(self) -> None:
        """Give the thread this device's context, if another one has spoken since."""
        if _speaking is not self:
            self._library.call("axclrtSetCurrentContext", self._context, doing=Doing.OPENING)
            _now_speaks(self)

    def close(self) -> None:
        """Engine, device, runtime, in this order. What goes wrong is logged: there is nothing left to do."""
        self.forget()
        if self._has_engine and not _open:
            self._quietly("axclrtEngineFinalize")
        if self.device >= 0:
            self._quietly("axclrtResetDevice", self.device)
        if not _open:
            self._quietly("axclFinalize")
        self._has_engine, self.device = False, -1

    def forget(self) -> None:
        """A lost device is neither reset nor closed: it is only no longer one of ours."""
        if self in _open:
            _open.remove(self)
        _now_speaks(None)

    def _quietly(self, function: str, *arguments: int) -> None:
        try:
            self._library.call(function, *arguments, doing=Doing.CLOSING)
        except HardwareError as error:
            log.warning("%s", error)


def _now_speaks(session: Session | None) -> None:
    global _speaking
    _speaking = session


def finish_calls_before_leaving() -> None:
    """Where a signal would end the process at once, let it end between two calls, closing the card.

    The interpreter looks for signals when a call has returned, so the card is never left in the middle of
    one. The worker has handlers of its own, which stay.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def config_file(options: AxclSettings, directory: Path) -> Path | None:
    """The file for ``axclInit``: by default it logs to a directory in /tmp that may be somebody else's."""
    if options.config == "none":
        return None
    if options.config != "own":
        return Path(options.config)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "axcl.json"
    log_file = str(directory / "axcl.log")
    told = {
        "log": {
            "host": {"path": log_file, "level": options.log_level},
            "device": {"level": options.log_level},
        }
    }
    path.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return path
