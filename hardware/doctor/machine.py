"""The machine as the doctor sees it: files below a root, and commands. Tests put a directory in its place."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_S = 10.0
"""How long a command may take."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it said on stdout and stderr."""

    status: int
    output: str


def run_command(command: Sequence[str], timeout_s: float) -> Ran | None:
    """None when the command is not there or did not end in time (it is then killed: no card owners here)."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"))


def free_bytes(path: Path) -> int | None:
    """Of the file system that holds ``path``, or will once it is made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    with suppress(OSError):
        return shutil.disk_usage(path).free
    return None


@dataclass(frozen=True, slots=True)
class Machine:
    """``root`` stands for ``/``. Paths are given as on the machine, absolute."""

    root: Path = Path("/")
    command: Callable[[Sequence[str], float], Ran | None] = run_command
    free: Callable[[Path], int | None] = free_bytes
    architecture: str = field(default_factory=platform.machine)
    python: tuple[int, int] = field(default_factory=lambda: sys.version_info[:2])

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def has(self, path: str) -> bool:
        return self.path(path).exists()

    def may_use(self, path: str) -> bool:
        """Whether this user may read and write it."""
        return os.access(self.path(path), os.R_OK | os.W_OK)

    def text(self, path: str) -> str | None:
        """What stands in the file, without the zeros of the device tree; None when it cannot be read."""
        try:
            return self.path(path).read_text("utf-8", "replace").strip("\0 \n")
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """What the directory holds, sorted; empty when there is none."""
        try:
            return sorted(child.name for child in self.path(path).iterdir())
        except OSError:
            return []

    def run(self, *command: str, timeout_s: float = COMMAND_S) -> Ran | None:
        return self.command(command, timeout_s)

    @property
    def kernel(self) -> str:
        return self.text("/proc/sys/kernel/osrelease") or ""

    @property
    def board(self) -> str:
        """What the board calls itself; empty where nothing says so (a PC, mostly)."""
        return self.text("/proc/device-tree/model") or ""

    @property
    def is_raspberry_pi(self) -> bool:
        return self.board.startswith("Raspberry Pi")
