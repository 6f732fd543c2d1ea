"""What it takes that a file is still there after a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether it says that there is no room for more."""
    return error.errno in _NO_ROOM


def make_directory(directory: Path, *, is_durable: bool = True) -> None:
    """With those above it. A new one is an entry of the one above, which has to reach the disk as well."""
    if directory.is_dir():
        return
    make_directory(directory.parent, is_durable=is_durable)
    directory.mkdir(exist_ok=True)
    if is_durable:
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """A rename is lost in a power cut until the directory itself is on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
