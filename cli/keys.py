"""``hearth keys``: who may ask. Works on the file in the data directory; a running server notices it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from cli.errors import CliError
from cli.output import age, print_json, print_table
from config.keyring import Key, Keyring, KeyringError, Scope
from config.settings import SettingsError, read_settings


class Limits(TypedDict):
    """What is set for one key; None leaves it to the settings, and without ``days`` it stays."""

    days: float | None
    per_minute: int | None
    tokens_per_minute: int | None


def add(name: str, data_dir: Path | None, limits: Limits, *, is_admin: bool, as_json: bool) -> None:
    """Print a new key to stdout, once; nobody can show it again."""
    with _told():
        key, secret = _ring(data_dir).add(name, Scope.ADMIN if is_admin else Scope.INFER, **limits)
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
    print_table(
        ("id", "name", "scope", "age", "expires", "a minute"),
        (
            (key.id, key.name, key.scope.value, age(key.created_at), _expires(key), _a_minute(key))
            for key in keys
        ),
        empty="there are no keys: whoever reaches the server may ask",
    )


def _expires(key: Key) -> str:
    if key.expires_at is None:
        return "never"
    return (
        "has expired" if key.has_expired else time.strftime("%Y-%m-%d %H:%M", time.localtime(key.expires_at))
    )


def _a_minute(key: Key) -> str:
    limits = {"requests": key.per_minute, "tokens": key.tokens_per_minute}
    return ", ".join(f"{limit} {of}" for of, limit in limits.items() if limit is not None)


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
    told = asdict(key)
    del told["sha256"]
    return told
