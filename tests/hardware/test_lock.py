from __future__ import annotations

import os
from pathlib import Path

import pytest

from hardware.errors import CardBusy
from hardware.lock import CardLock, is_held


def test_the_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "card.lock"
    lock = CardLock(path, "card-7")
    waited: list[float] = []
    with pytest.raises(CardBusy, match=f"card-7 belongs to process {os.getpid()}"):
        CardLock(path, "card-7", pause=waited.append)
    assert 0.1 < sum(waited) < 1
    lock.close()
    lock.close()
    CardLock(path, "card-7").close()


def test_asking_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "card.lock"
    assert not is_held(path)
    assert not path.exists()
    lock = CardLock(path, "card-7")
    assert is_held(path)
    lock.close()
    assert not is_held(path)


def test_an_owner_outwaits_someone_who_only_asks(tmp_path: Path) -> None:
    path = tmp_path / "card.lock"
    path.touch()
    asking = CardLock(path, "someone who asks")
    CardLock(path, "card-7", pause=lambda seconds: asking.close()).close()


def test_a_longer_process_id_leaves_no_digits_behind(tmp_path: Path) -> None:
    path = tmp_path / "card.lock"
    path.write_text("123456789012\n")
    lock = CardLock(path, "card-7")
    assert path.read_text() == f"{os.getpid()}\n"
    lock.close()


def test_the_lock_is_not_inherited_by_commands_we_start(tmp_path: Path) -> None:
    lock = CardLock(tmp_path / "card.lock", "card-7")
    assert not os.get_inheritable(lock._descriptor)
    lock.close()
