"""``hearth keys``: who may ask. Works on the file in the data directory; a running server notices it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.output import age, print_json, print_table
from config.keyring import Key, Keyring, KeyringError, Scope
from config.settings import SettingsError, read_settings


def add(name: str, data_dir: Path | None, *, is_admin: bool, as_json: bool) -> None:
    """Print a new key to stdout, once; nobody can show it again."""
    with _told():
        key, secret = _ring(data_dir).add(name, Scope.ADMIN if is_admin else Scope.INFER)
    if as_json:
        print_json({**_out(key), "key": secret})
        return
    sys.stdout.write(secret + "\n")
    sys.stderr.write(f"this is {key.id} ({key.name}, {key.scope}); it is shown this once and kept nowhere\n")


def ls(data_dir: Path | None, *, as_json: bool) -> None:
    with _told():
        keys = sorted(_ring(data_dir), key=lambda key: key.created_at)
    if as_json:
        print_json([_out(key) for key in keys])
        return
    rows = ((key.id, key.name, key.scope.value, age(key.created_at)) for key in keys)
    print_table(
        ("id", "name", "scope", "age"), rows, empty="there are no keys: whoever reaches the server may ask"
    )


def revoke(name: str, data_dir: Path | None, *, as_json: bool) -> None:
    with _told():
        key = _ring(data_dir).revoke(name)
    if as_json:
        print_json(_out(key))
    else:
        sys.stderr.write(f"{key.id} ({key.name}) opens nothing any more\n")


def _ring(data_dir: Path | None) -> Keyring:
    overrides: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    ring = Keyring(read_settings(**overrides).data_dir)
    ring.refresh()
    return ring


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (KeyringError, SettingsError) as error:
        raise CliError(str(error)) from None


def _out(key: Key) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "scope": key.scope, "created_at": key.created_at}
