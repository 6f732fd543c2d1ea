"""A package on its way into the models directory: whole files, then the whole package, then its name.

Until the last rename everything lies under a hidden name that the catalog does not look at, so a process that
dies leaves no half package behind; the next pull of the same package goes on after the last whole file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from api.errors import Refusal
from api.packages.shelf import File, Listing, Package, listing, open_inside

STAGING = ".pull-"
"""What the names of packages on their way begin with."""
_PIECE_BYTES = 4 << 20
_SPARE_BYTES = 64 << 20
"""What a pull leaves free on the disk, at least."""
_TELL_EVERY_S = 0.25
_PART = ".hearth-part"

Line = dict[str, Any]
Tell = Callable[[Line], None]


class Stopped(Exception):
    """Nobody waits for it any more. What was copied is kept for the next time."""


class Copying:
    """Copies one package. Blocking: ``run`` belongs into a thread; ``tell`` is called from there."""

    def __init__(
        self, package: Package, models_dir: Path, tell: Tell, is_stopped: Callable[[], bool]
    ) -> None:
        self._package = package
        self._models_dir = models_dir
        self._tell = tell
        self._is_stopped = is_stopped
        self._progress = Progress(tell)

    @property
    def target(self) -> Path:
        return self._models_dir / self._package.directory.name

    def run(self) -> Path:
        """Bring the package to ``target``, and return that.

        Raises:
            Refusal: it cannot be brought; the message says why, and what to do about it.
            Stopped: ``is_stopped`` was true.
        """
        self._tell({"status": "pulling manifest"})
        with self._explained():
            if self.target.exists():  # it came by another way; the catalog will tell what it is
                return self.target
            wanted = listing(self._package)
            self._progress.of(wanted)
            staging = self._models_dir / f"{STAGING}{self._package.id}-{wanted.digest[:16]}"
            self._forget_others(staging)
            staging.mkdir(exist_ok=True)
            with _alone_in(staging):
                self._check_room(wanted, staging)
                for file in wanted.files:
                    self._bring(file, staging / file.path)
                self._verify(wanted, staging)
                self._tell({"status": "writing manifest"})
                _sync_directories(staging)
                staging.rename(self.target)
            _sync(self._models_dir)
        return self.target

    def _bring(self, file: File, place: Path) -> None:
        if place.is_file() and place.stat().st_size == file.size_bytes:
            self._progress.add(file.size_bytes)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + _PART)
        with os.fdopen(open_inside(self._package, file.path), "rb", buffering=0) as source:
            self._copy(source.read, part)
        if part.stat().st_size != file.size_bytes:
            raise Refusal(
                "package_refused", f"{file.path!a} has changed while it was copied: pull it again", "model"
            )
        os.utime(part, ns=(file.changed_ns, file.changed_ns))
        part.replace(place)

    def _copy(self, read: Callable[[int], bytes | None], part: Path) -> None:
        with part.open("wb", buffering=0) as sink:
            while piece := read(_PIECE_BYTES):
                self._go_on()
                view = memoryview(piece)
                while view:
                    view = view[sink.write(view) or 0 :]
                self._progress.add(len(piece))
            os.fsync(sink.fileno())

    def _verify(self, wanted: Listing, staging: Path) -> None:
        """The copies, not what was read: a disk that has failed is found out here."""
        named = [file for file in wanted.files if file.sha256 is not None]
        self._tell({"status": "verifying sha256 digest" if named else "verifying sizes"})
        for file in named:
            place, found = staging / file.path, sha256()
            with place.open("rb", buffering=0) as copy:
                while piece := copy.read(_PIECE_BYTES):
                    self._go_on()
                    found.update(piece)
            if found.hexdigest() != file.sha256:
                place.unlink()
                told = f"{file.path!a} does not have the checksum that SHA256SUMS gives: the copy, or the "
                raise Refusal("package_refused", f"{told}catalogue, is damaged; pull it again", "model")

    def _go_on(self) -> None:
        if self._is_stopped():
            raise Stopped

    def _check_room(self, wanted: Listing, staging: Path) -> None:
        here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        need_bytes = wanted.total_bytes - here + _SPARE_BYTES
        free_bytes = shutil.disk_usage(self._models_dir).free
        if free_bytes < need_bytes:
            raise Refusal(
                "disk_full",
                f"'{self._package.id}' needs {_mib(need_bytes)} more on the disk of {self._models_dir}, and "
                f"{_mib(free_bytes)} are free: remove a model (hearth models rm), or make room",
            )

    def _forget_others(self, staging: Path) -> None:
        """What was begun of an older state of this package."""
        for place in self._models_dir.glob(f"{STAGING}{self._package.id}-{'[0-9a-f]' * 16}"):
            if place != staging:
                shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> Refusal:
        where = Path(str(error.filename or self._models_dir))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            told = f"the disk of {self._models_dir} is full; what was copied is kept: make room, pull again"
            return Refusal("disk_full", told)
        if where.is_relative_to(self._models_dir):
            told = f"{where} cannot be written: {error.strerror}; the API's process must own that directory"
        else:
            why = error.strerror or error
            told = f"'{self._package.id}' cannot be read from the catalogue: {why}; pull it again"
        return Refusal("storage_failed", told)


class Progress:
    """Bytes as Ollama tells them: a digest, how many in all, how many so far. Told seldom enough."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._line: Line = {}
        self._told_s = float("-inf")

    def of(self, wanted: Listing) -> None:
        digest = wanted.digest
        self._line = {
            "status": f"pulling {digest[:12]}",
            "digest": f"sha256:{digest}",
            "total": wanted.total_bytes,
            "completed": 0,
        }
        self._tell(self._line)

    def add(self, size_bytes: int) -> None:
        self._line = {**self._line, "completed": self._line["completed"] + size_bytes}
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_EVERY_S or self._line["completed"] >= self._line["total"]:
            self._told_s = now_s
            self._tell(self._line)


@contextmanager
def _alone_in(staging: Path) -> Iterator[None]:
    """Raises Refusal when another process is at it."""
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = "another process is copying this package just now: wait for it, then pull again"
            raise Refusal("package_busy", told, "model") from None
        yield
    finally:
        os.close(descriptor)


def _sync_directories(staging: Path) -> None:
    for place in (path for path in staging.rglob("*") if path.is_dir()):
        _sync(place)
    _sync(staging)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems know no fsync of directories
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
