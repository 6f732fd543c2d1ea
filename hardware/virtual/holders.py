"""Which processes hold memory of a simulated device: a table of a few lines in its state file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST = 16
"""Processes that may hold memory of one device at once."""

_ENTRY = struct.Struct("<QQQ?7x")
SIZE_BYTES = MOST * _ENTRY.size


@dataclass(frozen=True, slots=True)
class Holder:
    """One process and what it holds, in bytes. ``started`` tells it from a later process of the same number.

    ``is_kept``: what it holds stays taken when it has gone, until the device is booted anew.
    """

    pid: int
    started: int
    size_bytes: int
    is_kept: bool = False

    @property
    def is_alive(self) -> bool:
        return started_at(self.pid) == self.started


def started_at(pid: int) -> int:
    """When the process began, in the kernel's ticks since the machine started; 0 when there is none."""
    with suppress(OSError, IndexError, ValueError):
        # The name in parentheses may hold anything, so count from behind it: field 22 of the line.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def encode(holders: Sequence[Holder]) -> bytes:
    """Raises ValueError when they are too many for the table."""
    if len(holders) > MOST:
        raise ValueError(f"{len(holders)} processes hold memory of one device; it has room for {MOST}")
    lines = (_ENTRY.pack(each.pid, each.started, each.size_bytes, each.is_kept) for each in holders)
    return b"".join(lines).ljust(SIZE_BYTES, b"\0")


def decode(body: bytes) -> list[Holder]:
    return [Holder(*fields) for fields in _ENTRY.iter_unpack(body) if fields[0]]
