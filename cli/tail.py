"""``hearth logs``: what the supervised processes say, from their files; rotated ones are followed on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from cli.errors import USAGE, CliError
from cli.logs import KEPT
from config.settings import SettingsError, read_settings

NAMES = ("redis", "api", "npu", "monitor", "flower")
"""The supervised processes, in the order of starting."""
_ALIASES = {"worker": "npu"}
_LOOK_S = 0.2
_PIECE_BYTES = 1 << 16

Say = Callable[[str, str], None]
"""A process and a line of its."""


def logs(process: str | None, data_dir: Path | None, lines: int, *, follow: bool, as_json: bool) -> None:
    """Print the last ``lines`` of a process, or of each; then, if told to ``follow``, what comes.

    Raises:
        CliError: there is no such process, or no log of it.
    """
    chosen = _chosen(process, _directory(data_dir))
    say = _say_json if as_json else _say(len(chosen) > 1)
    with ExitStack() as open_files:
        followers = [open_files.enter_context(Follower(path)) for path in chosen]
        for follower in followers:
            for line in follower.last(lines):
                say(follower.name, line)
        while follow:
            sys.stdout.flush()
            if not sum([_news(follower, say) for follower in followers]):
                time.sleep(_LOOK_S)  # files tell nobody that they have grown


def _news(follower: Follower, say: Say) -> int:
    count = 0
    for line in follower.news():
        say(follower.name, line)
        count += 1
    return count


class Follower:
    """One log file, through its rotations: whole lines only. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self._file: BinaryIO | None = None
        self._pending = b""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def last(self, count: int) -> list[str]:
        """The last lines there are now, older files included; ``news`` goes on behind them."""
        kept: deque[str] = deque(maxlen=count)
        for number in range(KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            with suppress(FileNotFoundError):
                kept.extend(older.read_text("utf-8", "replace").splitlines())
        kept.extend(self.news())
        return list(kept)

    def news(self) -> Iterator[str]:
        """The lines that have come since. A file that was moved away is read to its end first."""
        while True:
            if self._file is None:
                try:
                    self._file = self._path.open("rb")
                except FileNotFoundError:  # between two files, or nothing was said yet
                    return
            was_moved = not self._is_current(self._file)
            yield from self._lines(self._file)
            if not was_moved:
                return
            self.close()

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            now, ours = self._path.stat(), os.fstat(file.fileno())
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        while piece := file.read(_PIECE_BYTES):
            *lines, self._pending = (self._pending + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")


def _directory(data_dir: Path | None) -> Path:
    try:
        settings = read_settings(**({} if data_dir is None else {"data_dir": data_dir}))
    except SettingsError as error:
        raise CliError(str(error), status=USAGE) from None
    return settings.data_dir / "logs"


def _chosen(process: str | None, directory: Path) -> Sequence[Path]:
    """The files to read. A process that has said nothing yet may be followed by its name."""
    names = NAMES if process is None else (_ALIASES.get(process, process),)
    if names[0] not in NAMES:
        known = ", ".join((*NAMES, *_ALIASES))
        raise CliError(f"there is no process {process!r}; there are: {known}", status=USAGE)
    paths = [directory / f"{name}.log" for name in names]
    if not directory.is_dir() or not any(path.exists() for path in paths):
        raise CliError(
            f"there are no logs in {directory}: was ./hearth up started with another --data-dir? "
            "Under systemd:  journalctl -u 'hearth-*' -f"
        )
    return [path for path in paths if path.exists()]


def _say(with_name: bool) -> Say:
    def say(name: str, line: str) -> None:
        sys.stdout.write(f"{name:<7} | {line}\n" if with_name else f"{line}\n")

    return say


def _say_json(name: str, line: str) -> None:
    sys.stdout.write(json.dumps({"process": name, "line": line}, ensure_ascii=False) + "\n")
