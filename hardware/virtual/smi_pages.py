"""What ``axcl-smi`` prints of a device, character by character: the table, ``info``, the memory blocks.

Source: the format strings of ``cmd_info.cpp`` and of the V3.10.2 tool; tables users have shown (V2.18 on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.health import cpu_percent
from hardware.virtual.abi.options import bus_id, device_id

MIB, KIB = 1 << 20, 1 << 10

_SYSTEM_KIB, _SYSTEM_FREE_KIB = 968356, 815640
"""What Linux on the card has, beside the CMM; from a table shown by a user."""
_BASE = 0x148000000
_DEBUG_UNTIL = (2, 18)
"""Up to this version the tool prints a line of its author's before the table, for every process."""

_RULE = "+" + "-" * 96 + "+"
_COLUMNS = "+" + "-" * 41 + "+" + "-" * 14 + "+" + "-" * 39 + "+"


@dataclass(frozen=True, slots=True)
class Shown:
    """One device as the tool sees it; ``temperature_c`` None prints as ``--``. Loads are 0 to 1."""

    index: int
    temperature_c: float | None
    npu_load: float | None
    used_bytes: int
    total_bytes: int
    holders: tuple[tuple[int, int], ...]
    """Process id and bytes."""

    @property
    def device_id(self) -> int:
        return device_id(self.index)


def table(sdk: str, devices: Sequence[Shown], names: Mapping[int, str] | None = None) -> str:
    """The summary. ``names``: what to call processes, by id; others by their program."""
    lines = [_RULE, f"| {'AXCL-SMI  ' + sdk:<32}{'':30}{'Driver  ' + sdk:>32} |", _COLUMNS]
    lines += [
        "| Card  Name                     Firmware | Bus-Id       |                          Memory-Usage |",
        "| Fan   Temp                Pwr:Usage/Cap | CPU      NPU |                             CMM-Usage |",
        "|" + "=" * 41 + "+" + "=" * 14 + "+" + "=" * 39 + "|",
    ]
    for device in devices:
        lines += [*_rows(sdk, device), _COLUMNS]
    lines += ["", _RULE, f"| {'Processes:':<94} |"]
    lines += [
        "| Card      PID  Process Name                                                   NPU Memory Usage |"
    ]
    lines += ["|" + "=" * 96 + "|"]
    found = [
        f"| {device.index:4} {pid:8}  {(names or {}).get(pid) or _program(pid):<66.66} {size // KIB:8} KiB |"
        for device in devices
        for pid, size in device.holders
    ]
    # The tool draws the last border only below something.
    lines += [*found, _RULE] if found else []
    if version(sdk) <= _DEBUG_UNTIL:
        pids = [pid for device in devices for pid, _ in device.holders]
        lines = [*(f"i {number} = {pid}  pid = {pid}" for number, pid in enumerate(pids)), *lines]
    return "\n".join(lines) + "\n"


def _rows(sdk: str, device: Shown) -> list[str]:
    used, total = (_SYSTEM_KIB - _SYSTEM_FREE_KIB) // KIB, _SYSTEM_KIB // KIB
    warmth = "--" if device.temperature_c is None else f"{round(device.temperature_c)}C"
    npu = "--" if device.npu_load is None else f"{int(100 * device.npu_load)}%"
    cpu = f"{int(cpu_percent(device.npu_load or 0.0))}%"
    cmm = f"{device.used_bytes // MIB:8} MiB / {device.total_bytes // MIB:8} MiB"
    firmware = sdk.partition("_")[0]
    return [
        f"| {device.index:4}  {'AX650N':<16} {firmware:>16} | {bus_id(device.index):>12} |"
        f"           {used:8} MiB / {total:8} MiB |",
        f"| {'--':>4}  {warmth:>4} {'-- / --':>28} | {cpu:<6}{npu:>6} |           {cmm} |",
    ]


def info(kind: str, device: Shown) -> str:
    """One block of ``info``; ``kind`` is temp, mem, cmm, cpu or npu."""
    facts = {"temp": _temp, "mem": _mem, "cmm": _cmm, "cpu": _cpu, "npu": _npu}[kind](device)
    head = ("Device ID", f"{device.device_id} (0x{device.device_id:x})")
    return "".join(f"{name:<20}: {value}\n" for name, value in (head, *facts)) + "\n"


def _temp(device: Shown) -> list[tuple[str, str]]:
    shown = "--" if device.temperature_c is None else f"{1000 * device.temperature_c:.0f}"
    return [("temperature", shown)]


def _mem(device: Shown) -> list[tuple[str, str]]:
    amounts = {"MemTotal": _SYSTEM_KIB, "MemFree": _SYSTEM_FREE_KIB, "MemAvailable": _SYSTEM_FREE_KIB}
    return [(name, f"{amount:8} kB") for name, amount in amounts.items()]


def _cmm(device: Shown) -> list[tuple[str, str]]:
    total, used = device.total_bytes // KIB, device.used_bytes // KIB
    return [
        ("CMM Total", f"{total:8} KiB"),
        ("CMM Used", f"{used:8} KiB"),
        ("CMM Remain", f"{total - used:8} kiB"),
    ]


def _cpu(device: Shown) -> list[tuple[str, str]]:
    busy = cpu_percent(device.npu_load or 0.0)
    usage = f"{busy / 2:.1f}% usr  {busy / 2:.1f}% sys  0.0% nic {100 - busy:.1f}% idle"
    return [
        ("CPU Usage (%)", f"{busy:.2f}%"),
        ("CPU", usage + "  0.0% io  0.0% irq  0.0% sirq"),
        ("Load average", "3.03 3.06 3.02 1/153 890"),
    ]


def _npu(device: Shown) -> list[tuple[str, str]]:
    load = device.npu_load
    version = ("engine version", "2.12.0s")
    # The card's own text ends in a percent sign, and the tool adds one.
    return [version, ("vnpu-Non", f"{int(100 * load)}%%") if load else ("NPU Usage (%)", "--")]


def cmm_info(sdk: str, device: Shown) -> str:
    """``/proc/ax_proc/mem_cmm_info`` of the card."""
    total, used = device.total_bytes // KIB, device.used_bytes // KIB
    end = _BASE + device.total_bytes - 1
    blocks, at = [], _BASE
    for pid, size in device.holders:
        blocks.append(
            f"  |-Block: phys(0x{at:X}, 0x{at + size - 1:X}), cache =non-cacheable, "
            f'length={size // KIB}KB({size // MIB}MB),    name="npu_m_pid{pid}"'
        )
        at += size

    def parts(kib: int) -> str:
        return f"{kib}KB({kib // KIB}MB + {kib % KIB}KB)"

    return "\n".join(
        [
            "--------------------SDK VERSION-------------------",
            f"[Axera version]: ax_cmm {sdk} Jul 22 2025 02:21:25 JK",
            f"+---PARTITION: Phys(0x{_BASE:X}, 0x{end:X}), Size={total}KB({total // KIB}MB), "
            '   NAME="anonymous"',
            f" nBlock(Max=0, Cur={len(blocks)}, New=0, Free=0)  nbytes(Max=0B(0KB,0MB), "
            f"Cur={device.used_bytes}B({used}KB,{used // KIB}MB))",
            *blocks,
            "---CMM_USE_INFO:",
            f" total size={total}KB({total // KIB}MB),used={parts(used)},remain={parts(total - used)},"
            f"partition_number=1,block_number={len(blocks)}",
            "",
        ]
    )


def version(sdk: str) -> tuple[int, int]:
    major, minor, *_ = (*sdk.lstrip("V").partition("_")[0].split("."), "0", "0")
    return int(major), int(minor)


def _program(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return "--"
