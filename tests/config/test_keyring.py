from __future__ import annotations

import json
import os
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


def test_a_key_opens_nothing_after_its_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = Keyring(tmp_path).add("guest", Scope.INFER, days=2)
    assert key.expires_at == pytest.approx(key.created_at + 2 * 86400)
    ring = read(tmp_path)
    assert ring.find(secret) == key
    late_s = key.created_at + 2 * 86400 + 1
    monkeypatch.setattr("config.keyring.time.time", lambda: late_s)
    assert ring.find(secret) is None
    assert [each.has_expired for each in ring] == [True], "it is still listed"
    assert ring.exists


def test_limits_of_a_key_are_kept_and_what_is_not_set_is_not(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    plain, _ = ring.add("plain", Scope.INFER)
    bound, _ = ring.add("bound", Scope.INFER, per_minute=30, tokens_per_minute=9000)
    assert list(read(tmp_path)) == [plain, bound]
    first, second = json.loads((tmp_path / FILE).read_text())["keys"]
    assert set(second) - set(first) == {"per_minute", "tokens_per_minute"}


@pytest.mark.parametrize("limit", ["days", "per_minute", "tokens_per_minute"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_more_than_nothing(tmp_path: Path, limit: str, value: float) -> None:
    with pytest.raises(KeyringError, match="more than 0"):
        Keyring(tmp_path).add("x", Scope.INFER, **{limit: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("expires_at", "soon"), ("per_minute", "30"), ("free", True)])
def test_a_limit_that_cannot_be_read_opens_nothing(tmp_path: Path, name: str, value: object) -> None:
    Keyring(tmp_path).add("laptop", Scope.INFER)
    kept = json.loads((tmp_path / FILE).read_text())
    kept["keys"][0][name] = value
    (tmp_path / FILE).write_text(json.dumps(kept))
    with pytest.raises(KeyringError, match="damaged"):
        read(tmp_path)


def test_a_file_left_behind_does_not_pass_on_its_mode(tmp_path: Path) -> None:
    left = tmp_path / f".{FILE}.{os.getpid()}"
    left.touch(0o666)
    left.chmod(0o666)
    Keyring(tmp_path).add("laptop", Scope.INFER)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


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
