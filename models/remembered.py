"""What was found out about packages on this machine's card: small JSON files beside the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def fingerprint(files: Iterable[Path], *more: str) -> str:
    """Changes with the name, size or time of any file, and with ``more``. Raises OSError."""
    digest = hashlib.sha256("\n".join(more).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def recall(memory: Path) -> dict[str, Any]:
    """What is remembered; a file that cannot be read is as good as none: it is found out again."""
    try:
        known = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(memory: Path, key: str, entry: Any) -> None:
    """Add ``entry`` under ``key``; a reader sees the file as it was or as it is. Raises OSError."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    fresh = memory.with_suffix(".new")
    fresh.write_text(json.dumps({**recall(memory), key: entry}, indent=2) + "\n", "utf-8")
    fresh.replace(memory)
