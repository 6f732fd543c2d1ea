"""``python -m hardware.virtual.smi``: an ``axcl-smi`` over the state of simulated devices.

It prints what the vendor's tool prints, character by character, so that whatever reads that is tested with
what it will read: the table, ``info``, ``reboot`` with its question, ``log``, ``proc``, ``sh``. ``AXCLSIM``
says which devices there are and which version it claims to be (``hardware.virtual.abi.options``), ``AXCLSMI``
how it misbehaves: a JSON object of ``Manners``.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import shlex
import signal
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from config.settings import CHECKOUT
from hardware.virtual.abi.options import SimOptions, device_id, read_options
from hardware.virtual.smi_pages import Shown, cmm_info, info, table, version
from hardware.virtual.state import CardState, Fault

VARIABLE = "AXCLSMI"
NO_DRIVER, NO_DEVICE, REBOOT_FAILED = 0x8030010B, 0x80300181, 0x80300187

_INDEX_SINCE = (2, 26)
"""From this version on ``-d`` counts cards; before, it was the number of the PCIe bus, and 0 meant all."""
_REBOOT_SINCE = (2, 26)
_PROC_SINCE = (3, 0)


@dataclass(frozen=True, slots=True)
class Manners:
    """``hangs``: says nothing and never ends. ``ignores_term``: only KILL ends it. ``cut``: stops after so
    many characters, as when a pipe breaks.
    """

    hangs: bool = False
    ignores_term: bool = False
    delay_s: float = 0.0
    cut: int | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Manners:
        """Raises ValueError when the variable holds something else."""
        text = environment.get(VARIABLE) or "{}"
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{VARIABLE}={text} cannot be understood: {error}") from None


class Failed(Exception):
    """What the tool says instead, and its exit status is 1."""


def look(options: SimOptions, index: int) -> Shown | None:
    """None: the device cannot be reached."""
    state = CardState.open(options.state, index)
    try:
        fault = state.orders().fault
        if fault is Fault.LOST:
            return None
        is_blind = fault is Fault.BLIND
        memory = state.memory(options.memory_bytes)
        return Shown(
            index=index,
            temperature_c=None if is_blind else state.reading_c(options.ambient_c, random.Random()),
            npu_load=None if is_blind else state.npu_load(),
            used_bytes=memory.total_bytes - memory.free_bytes,
            total_bytes=memory.total_bytes,
            holders=tuple((holder.pid, holder.size_bytes) for holder in state.holders()),
        )
    finally:
        state.close()


class Tool:
    """The program: arguments in, text out."""

    def __init__(self, options: SimOptions) -> None:
        self._options = options
        self._sdk = options.sdk

    def run(self, arguments: Sequence[str]) -> str:
        """Raises Failed."""
        if not self._options.has_driver:
            raise Failed(_error("device_manager", 20, f"axcl init fail, ret = {NO_DRIVER:#x}"))
        command, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
        device, rest = _device_option(rest)
        if command in ("-v", "--version"):
            return f"AXCL-SMI {self._sdk} BUILD: Jul 22 2025 02:30:24\n"
        commands = {"": self._table, "info": self._info, "reboot": self._reboot, "log": self._log}
        commands |= {"proc": self._proc, "sh": self._sh, "set": self._set}
        if command not in commands:
            raise Failed("usage: axcl-smi [<command> [<args>]] [--device] [--version] [--help]")
        return commands[command](rest, device)

    def _table(self, rest: list[str], device: int) -> str:
        if any(self._fault(index) is Fault.HANG for index in range(self._options.devices)):
            _hang()
        seen = [look(self._options, index) for index in range(self._options.devices)]
        if not seen:
            raise Failed(_error("device_manager", 31, f"no device is connected, ret = {NO_DEVICE:#x}"))
        return table(self._sdk, [device for device in seen if device is not None])

    def _info(self, rest: list[str], device: int) -> str:
        kinds = [flag.removeprefix("--") for flag in rest]
        if not kinds or set(kinds) - {"temp", "mem", "cmm", "cpu", "npu"}:
            raise Failed("usage: axcl-smi info --temp|--mem|--cmm|--cpu|--npu [-d <device>]")
        return "".join(info(kind, shown) for shown in self._devices(device) for kind in kinds)

    def _reboot(self, rest: list[str], device: int) -> str:
        self._demand(_REBOOT_SINCE)
        index = self._index(device)
        sys.stdout.write(f"Do you want to reboot device {device} ? (y/n): ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() != "y":
            return "\n"
        state = CardState.open(self._options.state, index)
        try:
            if not state.reboot():
                raise Failed(f"reboot device {device_id(index)} fail, ret = {REBOOT_FAILED:#x}")
        finally:
            state.close()
        return f"reboot device {device_id(index)} success\n"

    def _log(self, rest: list[str], device: int) -> str:
        where = Path(rest[rest.index("-o") + 1] if "-o" in rest else ".")
        (shown,) = self._devices(device)[:1]
        path = where / f"dev{shown.device_id}_log_{time.strftime('%Y%m%d%H%M%S')}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            text = cmm_info(self._sdk, shown).encode()
            entry = tarfile.TarInfo("log/kernel.log")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        return f"[{stamp}.332][{os.getpid()}][C][log][dump][73]: log dump finished: {path}\n"

    def _proc(self, rest: list[str], device: int) -> str:
        self._demand(_PROC_SINCE)
        (shown,) = self._devices(device)[:1]
        if rest == ["--cmm"]:
            return cmm_info(self._sdk, shown)
        module = rest[0].removeprefix("--") if rest else "venc"
        head = f"-------- {module.upper()} VERSION ------------------------"
        return f"{head}\n[Axera version]: ax_{module} {self._sdk} Jul 22 2025 02:21:25 JK\n"

    def _sh(self, rest: list[str], device: int) -> str:
        words = shlex.split(" ".join(rest))
        (shown,) = self._devices(device)[:1]
        if words == ["cat", "/proc/ax_proc/mem_cmm_info"]:
            return cmm_info(self._sdk, shown)
        raise Failed(
            f"execute shell {' '.join(words)} on device {shown.device_id} fail, ret = {NO_DEVICE:#x}"
        )

    def _set(self, rest: list[str], device: int) -> str:
        if len(rest) != 2 or rest[0] != "-f" or rest[1] not in ("1200000", "1400000", "1700000"):
            raise Failed("usage: axcl-smi set -f 1200000|1400000|1700000 [-d <device>]")
        (shown,) = self._devices(device)[:1]
        return f"set cpu frequency {rest[1]} to device {shown.device_id} succeed.\n"

    def _devices(self, device: int) -> list[Shown]:
        """Those that ``-d`` means. Raises Failed; hangs when one of them does."""
        every = self._by_bus and device == 0
        indices = range(self._options.devices) if every else [self._index(device)]
        if any(self._fault(index) is Fault.HANG for index in indices):
            _hang()
        found = []
        for index in indices:
            shown = look(self._options, index)
            if shown is None:
                raise Failed(f"active device {device_id(index)} fail, ret = {NO_DEVICE:#x}")
            found.append(shown)
        return found

    @property
    def _by_bus(self) -> bool:
        return version(self._sdk) < _INDEX_SINCE

    def _index(self, device: int) -> int:
        index = max(0, device - 1) if self._by_bus else device
        if not 0 <= index < self._options.devices:
            raise Failed(f"device index {device} is out of connected devices number {self._options.devices}")
        return index

    def _fault(self, index: int) -> Fault:
        state = CardState.open(self._options.state, index)
        try:
            return state.orders().fault
        finally:
            state.close()

    def _demand(self, least: tuple[int, int]) -> None:
        if version(self._sdk) < least:
            raise Failed("usage: axcl-smi [<command> [<args>]] [--device] [--version] [--help]")


def write_script(
    directory: Path, options: SimOptions | None = None, manners: Manners | None = None, name: str = "axcl-smi"
) -> Path:
    """Make an executable ``axcl-smi`` in ``directory``; without ``options`` it obeys the environment."""
    directory.mkdir(parents=True, exist_ok=True)
    told = {"AXCLSIM": options.encode()} if options else {}
    told |= {VARIABLE: json.dumps(asdict(manners))} if manners else {}
    exports = [f"export {variable}={shlex.quote(value)}" for variable, value in told.items()]
    program = f'exec {shlex.quote(sys.executable)} -P -m hardware.virtual.smi "$@"'
    path = directory / name
    path.write_text(
        "\n".join(["#!/bin/sh", *exports, f"export PYTHONPATH={shlex.quote(str(CHECKOUT))}", program, ""])
    )
    path.chmod(0o755)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--write-script"]:
        sys.stdout.write(f"{write_script(Path(given[1] if len(given) > 1 else '.'))}\n")
        return 0
    try:
        options, manners = read_options(), Manners.read()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if manners.ignores_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manners.hangs:
        _hang()
    time.sleep(manners.delay_s)
    options.state.mkdir(parents=True, exist_ok=True)
    with (options.state / "axcl-smi.running").open("w") as running:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = Tool(options).run(given)
        except BlockingIOError:
            sys.stdout.write("axcl-smi is already running, please try later.\n")
            return 1
        except Failed as failure:
            sys.stdout.write(f"{failure}\n")
            return 1
    sys.stdout.write(text[: manners.cut])
    return 0


def _hang() -> None:
    while True:
        signal.pause()


def _device_option(rest: list[str]) -> tuple[int, list[str]]:
    for flag in ("-d", "--device"):
        if flag in rest:
            at = rest.index(flag)
            value = rest[at + 1] if at + 1 < len(rest) else ""
            if not value.isdecimal():
                raise Failed(f"{flag} wants a number, not {value!r}")
            return int(value), rest[:at] + rest[at + 2 :]
    return 0, rest


def _error(module: str, line: int, words: str) -> str:
    stamp = time.strftime("%m-%d %H:%M:%S")
    return f"[{stamp}:933][E][smi][{module}][{line:4}]: {words}"


if __name__ == "__main__":
    sys.exit(main())
