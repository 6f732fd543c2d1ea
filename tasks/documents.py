"""Files of ``/v1/files``: what clients upload, and what their batches come to.

    <data>/files/file-…            the bytes; the name is ours, a client's own never becomes a path
    <data>/files/.file-….1f2e3d4c  what is still being written

What Redis knows of a file is written when its bytes are on the disk, and forgotten before they are removed:
bytes that nobody knows of are swept after a while (``tasks.retention``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import redis
import redis.asyncio

from config.settings import Settings
from tasks import keys, scripts
from tasks.connection import replies
from tasks.disk import make_directory, sync_directory
from tasks.errors import DiskFull

log = logging.getLogger("hearth.tasks.documents")

_ID = re.compile(r"file-[0-9a-f]{40}")
_LOOK_AGAIN_MS = 3_600_000
"""A file whose time is over while a batch needs it is looked at again after so long."""


class Purpose(StrEnum):
    """What a file is for. ``BATCH_OUTPUT`` is what a batch came to; clients send the others."""

    BATCH = "batch"
    USER_DATA = "user_data"
    VISION = "vision"
    BATCH_OUTPUT = "batch_output"


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of one file. ``name`` is the client's word, for people. Times as in job records."""

    id: str
    owner: str
    name: str
    purpose: Purpose
    size_bytes: int
    created_at_ms: int
    expires_at_ms: int


class Kept(StrEnum):
    """What became of a file that was to be noted."""

    KEPT = "kept"
    TOO_MANY = "many"
    FULL = "full"


class Dropped(StrEnum):
    """What became of a file that was to go. ``NEEDED``: a batch that has not ended reads it."""

    DROPPED = "dropped"
    NEEDED = "needed"
    UNKNOWN = "unknown"


class DocumentPage(NamedTuple):
    documents: tuple[Document, ...]
    has_more: bool


def new_document_id() -> str:
    """``file-`` and 160 random bits."""
    return "file-" + secrets.token_hex(20)


def is_document_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


class DocumentStore:
    """The bytes, below ``data_dir``. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._place = data_dir / "files"

    def path(self, document_id: str) -> Path:
        """Where its bytes are, or would be. Raises ValueError for what is no id of ours."""
        if not is_document_id(document_id):
            raise ValueError(f"{document_id!r} is not the id of a file")
        return self._place / document_id

    def begin(self, document_id: str) -> BinaryIO:
        """Open what is to become the file ``document_id``. Raises OSError."""
        path = self.path(document_id)
        make_directory(path.parent)
        return path.with_name(f".{document_id}.{secrets.token_hex(4)}").open("x+b")

    def settle(self, document_id: str, file: BinaryIO) -> None:
        """Give what was written its name, on the disk. Raises OSError."""
        file.flush()
        os.fsync(file.fileno())
        path = self.path(document_id)
        Path(file.name).replace(path)
        sync_directory(path.parent)

    def abandon(self, file: BinaryIO) -> None:
        """Close it and remove what was written; harmless when it has its name already."""
        with suppress(OSError):
            file.close()
        Path(file.name).unlink(missing_ok=True)

    def discard(self, document_id: str) -> None:
        """Remove the bytes; they need not be there."""
        try:
            self.path(document_id).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the file %s cannot be removed: %s", document_id, error)

    def leftovers(self, changed_before_s: float) -> list[Path]:
        """Everything that was last written to before then, in seconds since the epoch."""
        found = []
        with suppress(FileNotFoundError):
            for path in self._place.iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < changed_before_s:
                        found.append(path)
        return found


def no_room() -> DiskFull:
    return DiskFull("the server's disk is full: the file could not be kept")


async def keep(
    client: redis.asyncio.Redis,
    document_id: str,
    *,
    owner: str,
    name: str,
    purpose: Purpose,
    size_bytes: int,
    keep_s: float,
    settings: Settings,
) -> Kept:
    """Note a file whose bytes are on the disk, unless there are too many."""
    limits = settings.limits
    keep_ms = int(keep_s * 1000)
    bounds = (limits.files_per_key, limits.files_bytes)
    args = (document_id, owner, name, purpose.value, size_bytes, keep_ms, *bounds)
    reply = await scripts.run_async(client, "keep_document", *args)
    return Kept(reply[0].decode())


async def fetch(client: redis.asyncio.Redis, document_id: str, owner: str) -> Document | None:
    """The owner's file; None when there is none, or its time is over."""
    if not is_document_id(document_id):
        return None
    found = _document(document_id, await replies(client).hgetall(keys.document(document_id)))
    return found if found is not None and found.owner == owner else None


async def page(
    client: redis.asyncio.Redis,
    owner: str,
    *,
    purpose: Purpose | None = None,
    after: str | None = None,
    limit: int,
    oldest_first: bool = False,
) -> DocumentPage:
    """The owner's files, at most ``limit`` of them, behind ``after``.

    Raises:
        KeyError: ``after`` is not, or no longer, one of them.
    """
    index = keys.documents_of(owner)
    raw = await replies(client).zrange(index, 0, -1, desc=not oldest_first)
    ids = [document_id.decode() for document_id in raw]
    if after is not None:
        if after not in ids:
            raise KeyError(after)
        ids = ids[ids.index(after) + 1 :]
    found = [each for each in await _read(client, ids) if purpose is None or each.purpose is purpose]
    return DocumentPage(tuple(found[:limit]), len(found) > limit)


async def drop(client: redis.asyncio.Redis, document_id: str, files: DocumentStore) -> Dropped:
    """Forget a file and remove its bytes, unless a batch that has not ended needs it."""
    reply = await scripts.run_async(client, "drop_document", document_id, "")
    outcome = Dropped(reply[0].decode())
    if outcome is Dropped.DROPPED:
        await asyncio.to_thread(files.discard, document_id)
    return outcome


def drop_due(client: redis.Redis, files: DocumentStore, now_ms: float, at_most: int) -> list[str]:
    """Forget the files whose time is over, and remove their bytes; their ids."""
    due: Any = client.zrangebyscore(keys.DOCUMENTS, "-inf", now_ms, start=0, num=at_most)
    dropped = []
    for document_id in (raw.decode() for raw in due):
        reply = scripts.run(client, "drop_document", document_id, _LOOK_AGAIN_MS)
        if Dropped(reply[0].decode()) is Dropped.DROPPED:
            files.discard(document_id)
            dropped.append(document_id)
    return dropped


def drop_unknown(client: redis.Redis, files: DocumentStore, changed_before_s: float) -> list[str]:
    """Remove bytes that nobody knows of, if they were written before then; their names."""
    dropped = []
    for path in files.leftovers(changed_before_s):
        if not client.exists(keys.document(path.name)):
            path.unlink(missing_ok=True)
            dropped.append(path.name)
    return dropped


async def _read(client: redis.asyncio.Redis, ids: Sequence[str]) -> list[Document]:
    async with client.pipeline(transaction=False) as pipe:
        for document_id in ids:
            pipe.hgetall(keys.document(document_id))
        rows = await pipe.execute()
    read = (_document(document_id, fields) for document_id, fields in zip(ids, rows, strict=True))
    return [document for document in read if document is not None]


def _document(document_id: str, fields: dict[bytes, bytes]) -> Document | None:
    if not fields:
        return None
    expires_at_ms = int(fields[b"expires_at"])
    if expires_at_ms <= time.time() * 1000 and fields[b"uses"] == b"0":
        return None
    return Document(
        document_id,
        fields[b"owner"].decode(),
        fields[b"name"].decode(),
        Purpose(fields[b"purpose"].decode()),
        int(fields[b"size"]),
        int(fields[b"created_at"]),
        expires_at_ms,
    )
