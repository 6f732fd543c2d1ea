from __future__ import annotations

from pathlib import Path

import pytest

from config.keyring import FILE, PREFIX, Keyring, KeyringError, Scope


def read(data_dir: Path) -> Keyring:
    ring = Keyring(data_dir)
    ring.refresh()
    return ring


def test_a_key_is_found_by_what_it_is_and_kept_nowhere(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    assert not ring.exists
    key, secret = ring.add("  laptop ", Scope.INFER)
    assert secret.startswith(PREFIX)
    assert len(secret) >= 43
    assert (key.name, key.scope) == ("laptop", Scope.INFER)
    for each in (ring, read(tmp_path)):
        assert each.find(secret) == each.find(secret.encode()) == key
        assert each.find(secret + "x") is None
    file = tmp_path / FILE
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_change_is_noticed_by_who_refreshes(tmp_path: Path) -> None:
    server, person = Keyring(tmp_path), Keyring(tmp_path)
    _, first = person.add("first", Scope.ADMIN)
    server.refresh()
    assert server.find(first) is not None
    person.revoke("first")
    server.refresh()
    assert server.find(first) is None
    assert server.exists, "a ring without keys is not an open door"


def test_two_who_change_it_lose_nothing(tmp_path: Path) -> None:
    one, other = Keyring(tmp_path), Keyring(tmp_path)
    one.add("a", Scope.INFER)
    other.add("b", Scope.INFER)
    one.add("c", Scope.INFER)
    assert [key.name for key in read(tmp_path)] == ["a", "b", "c"]


def test_a_key_is_revoked_by_id_or_by_a_name_that_only_it_has(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    first, _ = ring.add("twin", Scope.INFER)
    ring.add("twin", Scope.INFER)
    with pytest.raises(KeyringError, match=first.id):
        ring.revoke("twin")
    assert ring.revoke(first.id) == first
    ring.revoke("twin")
    with pytest.raises(KeyringError, match="there is no key"):
        ring.revoke("twin")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{"id": 1}]}', '{"keys": [{"scope": "god"}]}'])
def test_a_damaged_ring_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(KeyringError, match="damaged"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["", "   ", "x" * 65])
def test_a_key_wants_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyringError, match="name"):
        Keyring(tmp_path).add(name, Scope.INFER)


def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / f".{FILE}.lock").mkdir()
    with pytest.raises(KeyringError, match="cannot be written"):
        Keyring(tmp_path).add("laptop", Scope.INFER)
