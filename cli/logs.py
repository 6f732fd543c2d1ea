"""Where the words of the supervised processes go: one rotated file each, and the terminal when asked."""

from __future__ import annotations

import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 5 * 1024 * 1024
"""A log file of this size becomes ``.1``."""
KEPT = 3
"""So many older files are kept."""


class ChildLog:
    """Bytes in, whole lines out to the terminal; the last lines are remembered for error messages."""

    def __init__(self, path: Path, *, prefix: str, verbose: bool) -> None:
        self.path = path
        self._prefix = prefix
        self._verbose = verbose
        self._pending = b""
        self._last: deque[str] = deque(maxlen=20)
        self._file = path.open("ab")
        path.chmod(0o600)

    def write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > MAX_BYTES:
            self._rotate()
        self._file.write(data)
        self._file.flush()
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > MAX_BYTES:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())

    def last_words(self) -> str:
        """The last line that says something; of a traceback that is the error itself."""
        return next((line.strip() for line in reversed(self._last) if line.strip()), "")

    def close(self) -> None:
        self._file.close()

    def _line(self, text: str) -> None:
        self._last.append(text)
        if self._verbose:
            with suppress(OSError):  # nobody listens any more; the file has it
                sys.stderr.write(f"{self._prefix} | {text}\n")

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEPT - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
