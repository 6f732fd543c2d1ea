"""When a child counts as too large."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from config.groups import VirtualCardSettings, WorkerSettings
from hardware.virtual.card import VirtualCard
from worker.memory import MIB, excess_bytes, limit_bytes, own_bytes

SIZE_BYTES = 64 * MIB


def test_what_a_process_has_of_its_own_counts_and_what_it_has_mapped_does_not(tmp_path: Path) -> None:
    before = own_bytes()
    path = tmp_path / "embeddings"
    path.touch()
    os.truncate(path, SIZE_BYTES)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert own_bytes() - before < SIZE_BYTES / 2
    own = bytearray(os.urandom(1) * SIZE_BYTES)
    assert own_bytes() - before > SIZE_BYTES / 2
    assert len(own) == SIZE_BYTES


def test_what_is_on_a_virtual_card_is_meant_to_be_there(tmp_path: Path) -> None:
    settings = WorkerSettings(child_memory_mib=own_bytes() // MIB + 16)
    with VirtualCard(tmp_path, VirtualCardSettings()) as card:
        before = excess_bytes(card, settings)
        card.allocate(512 * MIB)
        after = excess_bytes(card, settings)
        assert before - after > 256 * MIB


def test_without_a_word_half_of_the_machine_may_be_used() -> None:
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert limit_bytes(WorkerSettings()) == pytest.approx(total_kib * 512, rel=0.02)


def test_a_status_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: python\n")
    with pytest.raises(OSError, match="RssAnon"):
        own_bytes(tmp_path / "status")
