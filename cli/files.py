"""Where pictures go on this computer, and what they are called there."""

from __future__ import annotations

import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.errors import CliError

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpeg", "image/webp": ".webp"}
_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Place:
    """What ``--out`` says: a directory, a file, ``-`` for stdout, or nothing, which is the working directory.

    ``many``: it is for more than one picture. ``is_quiet``: paths are not printed, because something else is.
    """

    out: str | None = None
    many: bool = False
    is_quiet: bool = False

    def check(self) -> None:
        """Raises CliError for a place that will not do, before anything is drawn for it."""
        if self.out == "-":
            if self.many:
                raise CliError("one picture at a time goes to stdout; --out DIRECTORY for several", status=2)
            if sys.stdout.isatty():
                raise CliError("a picture is nothing to show in a terminal: --out FILE, or a pipe", status=2)
            return
        directory = self._directory()
        if not directory.is_dir():
            raise CliError(f"there is no directory {directory}", status=2)
        if not os.access(directory, os.W_OK):
            raise CliError(f"{directory} cannot be written to", status=2)

    def path(self, job: dict[str, Any], picture: dict[str, Any]) -> Path:
        """Where to put a picture; of many each has its seed behind the name that was given."""
        suffix = _SUFFIXES.get(picture["media_type"], "")
        if self.out is None or self._is_directory():
            return _free(self._directory() / f"{_slug(job)}{suffix}")
        given = Path(self.out)
        return _free(given.with_stem(f"{given.stem}-{picture['seed']}")) if self.many else given

    def _is_directory(self) -> bool:
        return self.out is not None and (self.out.endswith("/") or Path(self.out).is_dir())

    def _directory(self) -> Path:
        if self.out is None:
            return Path()
        return Path(self.out) if self._is_directory() else Path(self.out).parent


def save_all(client: Client, job: dict[str, Any], place: Place) -> list[str]:
    """Save every picture of a job and print the paths; returns them. Raises CliError."""
    pictures = [piece for piece in job["output"] if piece["type"] == "image"]
    if not pictures:
        raise CliError(f"the job {job['id']} has made no picture: it is {job['state']}")
    saved: list[str] = []
    for picture in pictures:
        data = client.download(picture["url"])
        if place.out == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            continue
        path = place.path(job, picture)
        _write(path, data)
        saved.append(str(path))
        if not place.is_quiet:
            sys.stdout.write(f"{path}\n")
            sys.stdout.flush()
    return saved


def _write(path: Path, data: bytes) -> None:
    """Whole, or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CliError(f"{path} cannot be written: {error.strerror}") from None


def _slug(job: dict[str, Any]) -> str:
    """``a-red-circle-42``: the words of the prompt and the seed."""
    asked = job["input"]
    words = re.sub(r"[^\w]+", "-", asked["prompt"].lower()).strip("-_")
    if len(words) > _NAME_CHARACTERS:
        words = words[:_NAME_CHARACTERS].rpartition("-")[0] or words[:_NAME_CHARACTERS]
    return f"{words or 'picture'}-{asked['seed']}"


def _free(path: Path) -> Path:
    """The same name, with a number behind it where there is such a file already."""
    wanted, number = path, 2
    while path.exists():
        path = wanted.with_stem(f"{wanted.stem}-{number}")
        number += 1
    return path
