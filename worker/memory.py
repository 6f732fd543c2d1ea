"""How much memory the child has of its own, and whether that is too much."""

from __future__ import annotations

import os
from pathlib import Path

from config.groups import WorkerSettings
from hardware.card import Card

KIB, MIB = 1024, 1024 * 1024
_ANONYMOUS = "RssAnon:"


def own_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Resident memory that belongs to no file. Mapped embeddings can be dropped at any time."""
    for line in status.read_text().splitlines():
        if line.startswith(_ANONYMOUS):
            return int(line.split()[1]) * KIB
    raise OSError(f"{status} has no line {_ANONYMOUS}")


def limit_bytes(settings: WorkerSettings) -> int:
    """What the settings allow; without a word of theirs half of the machine's memory."""
    if settings.child_memory_mib is not None:
        return settings.child_memory_mib * MIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def excess_bytes(card: Card, settings: WorkerSettings) -> int:
    """By how much this process is larger than it may be; 0 or less when it is not.

    The memory of a virtual card is this process's own, and what is on it is meant to be there.
    Raises HardwareError.
    """
    on_card = 0
    if card.info.is_virtual:
        memory = card.memory()
        on_card = memory.total_bytes - memory.free_bytes
    return own_bytes() - on_card - limit_bytes(settings)
