"""API keys by name: what each may do, and how it is told from others without being kept.

Keys are random, so one SHA-256 of a key is as good as the key is long: the file gives none of them away.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

FILE = "keys.json"
"""In the data directory, readable by its owner alone."""
PREFIX = "hearth-"
"""What every key begins with, so that people and scanners of leaks know what they have found."""
_RANDOM_BYTES = 32
_NAME_CHARACTERS = 64


class Scope(StrEnum):
    """``INFER`` asks for answers and sees its own jobs; ``ADMIN`` may also change the house for everybody."""

    INFER = "infer"
    ADMIN = "admin"


class KeyringError(Exception):
    """The keys cannot be read or changed; the message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. Times are seconds since the epoch; a key without ``expires_at`` stays until it
    is revoked, one without limits of its own has those of the settings.
    """

    id: str
    name: str
    sha256: str
    scope: Scope
    created_at: float
    expires_at: float | None = None
    per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at


class Keyring:
    """The keys in a data directory: what ``refresh`` has read last."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._keys: dict[str, Key] = {}
        self._stamp: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    @property
    def exists(self) -> bool:
        """A key was made here once, even if none is left: then nobody may ask without one."""
        return self._stamp is not None

    def find(self, key: str | bytes) -> Key | None:
        """The entry of a key that opens something now. Looked up by its hash: its time tells nothing."""
        found = self._keys.get(digest_of(key))
        return None if found is None or found.has_expired else found

    def refresh(self) -> None:
        """Read the file again if it has changed. Raises KeyringError."""
        if self._stamp != self._stamped():
            self._read()

    def add(
        self,
        name: str,
        scope: Scope,
        *,
        days: float | None = None,
        per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key; it is told once, here. After ``days`` it opens nothing. Raises KeyringError."""
        if not 1 <= len(name.strip()) <= _NAME_CHARACTERS:
            raise KeyringError(f"a key's name should have 1 to {_NAME_CHARACTERS} characters")
        for what, value in (("days", days), ("requests", per_minute), ("tokens", tokens_per_minute)):
            if value is not None and not 0 < value < math.inf:
                raise KeyringError(f"a key's {what} should be more than 0: leave it out for no limit")
        secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        now_s = round(time.time(), 3)
        key = Key(
            id="key_" + secrets.token_hex(4),
            name=name.strip(),
            sha256=digest_of(secret),
            scope=scope,
            created_at=now_s,
            expires_at=None if days is None else now_s + days * 86400,
            per_minute=per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        with self._changing():
            self._keys[key.sha256] = key
        return key, secret

    def revoke(self, name: str) -> Key:
        """Take a key out, by its id or, where only one has it, its name. Raises KeyringError."""
        with self._changing():
            found = [key for key in self if name in (key.id, key.name)]
            if not found:
                raise KeyringError(f"there is no key {name!r}; `hearth keys ls` lists them")
            if len(found) > 1:
                ids = ", ".join(key.id for key in found)
                raise KeyringError(f"{len(found)} keys are called {name!r}: name one of {ids}")
            del self._keys[found[0].sha256]
        return found[0]

    def _stamped(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyringError(f"{self._path} cannot be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_ino

    def _read(self) -> None:
        stamp = self._stamped()
        if stamp is None:
            self._keys, self._stamp = {}, None
            return
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            keys = [_key(fields) for fields in kept]
        except OSError as error:
            raise KeyringError(f"{self._path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise KeyringError(
                f"{self._path} is damaged ({error}): mend it, or remove it and make new keys"
            ) from None
        self._keys, self._stamp = {key.sha256: key for key in keys}, stamp

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The keys as they are now, to be changed by nobody else meanwhile; written when all went well."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with (self._path.parent / f".{FILE}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._read()
                yield
                self._write()
        except OSError as error:
            raise KeyringError(f"{self._path} cannot be written: {error.strerror}") from None

    def _write(self) -> None:
        fresh = self._path.with_name(f".{FILE}.{os.getpid()}")
        # What is not set is left out: so an older Hearth can read it.
        kept = [{name: value for name, value in asdict(key).items() if value is not None} for key in self]
        document = {"v": 1, "keys": kept}
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)  # a file left behind by another umask keeps its mode
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._stamp = self._stamped()


def _key(fields: dict[str, Any]) -> Key:
    """One entry of the file. Raises ValueError, KeyError and TypeError for what is none of ours."""
    key = Key(**{**fields, "scope": Scope(fields["scope"])})
    numbers = (key.expires_at, key.per_minute, key.tokens_per_minute)
    if not all(value is None or isinstance(value, int | float) for value in numbers):
        raise ValueError(f"the limits of {key.id} are no numbers")
    return key


def digest_of(key: str | bytes) -> str:
    data = key.encode() if isinstance(key, str) else key
    return sha256(data).hexdigest()
