"""What the runtime's error codes mean: one table, and what each becomes.

A code is ``0x80 | module``, ``0x30``, the part that complains, the error; another second byte is a code of
the SDK on the card. The same code means different things at different times: a full memory was seen as a
failed execution. So what a code becomes depends on what was being done. Source: the headers of AXCL V3.10.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from hardware.errors import CardLost, CardTimeout, FeedMismatch, GraphRejected, HardwareError, OutOfCardMemory


class Doing(Enum):
    """What a call was for."""

    OPENING = "opening the card"
    ALLOCATING = "allocating"
    COPYING = "copying"
    LOADING = "loading"
    BINDING = "binding"
    EXECUTING = "executing"
    CLOSING = "closing"
    REBOOTING = "booting it anew"


_PARTS: Mapping[int, str] = {
    0x01: "device",
    0x02: "context",
    0x03: "stream",
    0x04: "task",
    0x05: "memory",
    0x06: "configuration",
    0x07: "engine",
    0x08: "log",
    0x09: "control",
    0x0A: "latency",
    0x0B: "peer",
    0x0C: "user work",
}

_ERRORS: Mapping[int, str] = {
    0x01: "failed",
    0x02: "a null pointer",
    0x03: "an illegal parameter",
    0x04: "not supported",
    0x05: "no answer in time",
    0x06: "busy",
    0x07: "no memory",
    0x08: "a request could not be encoded",
    0x09: "an answer could not be decoded",
    0x0A: "an unexpected answer",
    0x0B: "could not be opened",
    0x0C: "its execution failed",
}

_OWN_ERRORS: Mapping[tuple[int, int], str] = {
    (0x01, 0x0B): "/dev/axcl_host is missing: the driver is not loaded",
    (0x01, 0x80): "cannot be queried",
    (0x01, 0x81): "no device connected",
    (0x01, 0x82): "cannot be probed",
    (0x01, 0x83): "not active",
    (0x01, 0x84): "no such device",
    (0x01, 0x85): "the thread has no device",
    (0x01, 0x86): "no port",
    (0x01, 0x87): "does not reboot",
    (0x01, 0x88): "a port cannot be closed",
    (0x02, 0x81): "cannot be made",
    (0x02, 0x82): "cannot be destroyed",
    (0x02, 0x83): "cannot be bound to the thread",
    (0x02, 0x84): "the thread has no context",
    (0x03, 0x83): "no answer in time",
    (0x05, 0x81): "not an allocation of this device",
    (0x07, 0x81): "no such tensor or shape group",
}

NO_DRIVER = 0x8030_010B
NO_DEVICE = 0x8030_0181

ADVICE: Mapping[int, str] = {
    NO_DRIVER: (
        "the driver is not loaded, mostly because the kernel was upgraded: "
        "sudo dkms autoinstall -k $(uname -r) && sudo modprobe axcl_host"
    ),
    NO_DEVICE: (
        "the card is not up: `lspci -d 1f4b:` must show it; on a Raspberry Pi 5 /boot/firmware/config.txt "
        "needs dtparam=pciex1 and dtoverlay=pciex1-compat-pi5,no-mip; when it was there before, cut the "
        "machine's power"
    ),
}
"""What a person can do about a card that cannot be opened."""

_OURS = frozenset({0x02, 0x03, 0x04})
"""Errors that say that we called wrongly."""
_SYNC_TIMEOUT = 0x8030_0383
_NOT_DEVICE_MEMORY = 0x8030_0581
_INVALID_INDEX = 0x8030_0781


def meaning(code: int) -> str:
    """In words, what ``code`` (unsigned) says."""
    part, error = code >> 8 & 0xFF, code & 0xFF
    if code >> 16 & 0xFF != 0x30:
        return f"error {error:#04x} of module {code >> 16 & 0xFF:#04x} of the SDK on the card"
    text = _OWN_ERRORS.get((part, error)) or _ERRORS.get(error) or f"error {error:#04x}"
    return f"{_PARTS.get(part, f'part {part:#04x}')}: {text}"


def error_of(function: str, result: int, doing: Doing) -> HardwareError:
    """The error that ``result``, what ``function`` returned while ``doing``, stands for."""
    code = result & 0xFFFF_FFFF
    text = f"{function} failed while {doing.value}: {code:#010x}, {meaning(code)}"
    if code in ADVICE and doing is Doing.OPENING:
        text += f". {ADVICE[code]}"
    return _kind(code, doing)(text)


def _kind(code: int, doing: Doing) -> type[HardwareError]:
    part, error = code >> 8 & 0xFF, code & 0xFF
    if doing is Doing.OPENING or part in (0x01, 0x02):
        return CardLost
    if code == _SYNC_TIMEOUT or error == 0x05:
        return CardTimeout
    if doing is Doing.LOADING:
        return GraphRejected  # or a full memory: the card finds that out
    if code in (_NOT_DEVICE_MEMORY, _INVALID_INDEX) or error in _OURS:
        return FeedMismatch
    if doing is Doing.ALLOCATING:
        return OutOfCardMemory
    return CardLost
