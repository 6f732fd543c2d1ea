"""Files of jobs: results, previews and input pictures, named by what is in them.

    <data>/artifacts/ab/ab3f….png     what jobs made; the record's ``ArtifactRef.path`` is relative to <data>
    <data>/artifacts/previews/job_…/  what a job showed while it was drawn
    <data>/inputs/ab3f…               pictures that came with jobs, kept by the API for the worker
    <data>/drawings/job_….pixels      what the card has drawn and is no file yet

A file is complete or it is not there, and whoever was told its name finds it after a power cut. Equal
contents are one file, which lives as long as a record refers to it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.disk import is_full, make_directory, sync_directory
from tasks.errors import DiskFull
from tasks.events import ArtifactRef
from tasks.jobs import ImageJob, Job

log = logging.getLogger("hearth.tasks.artifacts")

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpeg", "image/webp": ".webp"}
"""What the files are called, so that a person finds pictures in the directory."""

INPUTS, PREVIEWS = "inputs", "previews"
_DRAWING = ".pixels"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A result or an input as it lies on the disk. ``path`` is relative to the data directory."""

    path: str
    size_bytes: int
    changed_at_s: float


def input_paths(job: Job) -> tuple[str, ...]:
    """The spooled pictures that ``job`` needs, each once, relative to the data directory."""
    if not isinstance(job, ImageJob) or job.source is None:
        return ()
    named = (job.source.sha256, job.source.mask_sha256)
    return tuple(dict.fromkeys(f"{INPUTS}/{sha256}" for sha256 in named if sha256 is not None))


class ArtifactStore:
    """The two directories below ``data_dir``; made when something is first kept. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._artifacts = data_dir / "artifacts"
        self._inputs = data_dir / INPUTS
        self._drawings = data_dir / "drawings"

    def save(self, data: bytes, media_type: str) -> ArtifactRef:
        """Keep what a job made. Raises DiskFull, and OSError for whatever else keeps it from the disk."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._artifacts / sha256[:2] / (sha256 + SUFFIXES.get(media_type, ""))
        _write(path, data)
        return ArtifactRef(path.relative_to(self._data_dir).as_posix(), media_type, len(data), sha256)

    def save_preview(self, job_id: str, data: bytes, media_type: str) -> ArtifactRef:
        """Keep a small picture of a job that is being drawn, which need not outlive a power cut.

        Raises as ``save``.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.previews(job_id) / (sha256 + SUFFIXES.get(media_type, ""))
        _write(path, data, is_durable=False)
        return ArtifactRef(path.relative_to(self._data_dir).as_posix(), media_type, len(data), sha256)

    def previews(self, job_id: str) -> Path:
        """The directory of one job's previews."""
        return self._artifacts / PREVIEWS / job_id

    def previewed(self) -> list[tuple[str, float]]:
        """The ids of the jobs that have previews, and when each got its last, in seconds since the epoch."""
        return [(entry.name, entry.stat().st_mtime) for entry in _entries(self._artifacts / PREVIEWS)]

    def drop_previews(self, job_id: str) -> None:
        """Remove the previews of one job; there need not be any."""
        shutil.rmtree(self.previews(job_id), ignore_errors=True)

    def drawing(self, job_id: str) -> Path:
        """Where the pixels of a job are put aside until they are a file."""
        return self._drawings / (job_id + _DRAWING)

    def drawings(self) -> list[tuple[str, float]]:
        """The ids of the jobs whose pixels were put aside, and when, in seconds since the epoch."""
        return [
            (entry.name.removesuffix(_DRAWING), entry.stat().st_mtime) for entry in _entries(self._drawings)
        ]

    def files(self) -> list[StoredFile]:
        """All results and inputs, and what was left unfinished of either."""
        places = [
            entry.path
            for entry in _entries(self._artifacts)
            if entry.is_dir(follow_symlinks=False) and entry.name != PREVIEWS
        ]
        found = []
        for place in (*map(Path, places), self._inputs):
            for entry in _entries(place):
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    path = Path(entry.path).relative_to(self._data_dir).as_posix()
                    found.append(StoredFile(path, stat.st_size, stat.st_mtime))
        return found

    def discard(self, path: str, *, touched_before_s: float) -> bool:
        """Remove a file that no record refers to. False: it was written or used again since, and stays.

        Whoever keeps equal contents at this moment either finds the file gone and writes it anew, or has
        touched it: then it is put back. ``touched_before_s`` is in seconds since the epoch.
        """
        file = self._data_dir / path
        aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            if file.stat().st_mtime >= touched_before_s:
                return False
            file.rename(aside)
            if aside.stat().st_mtime >= touched_before_s:
                aside.rename(file)
                return False
            aside.unlink()
        except OSError as error:
            if error.errno != errno.ENOENT:
                log.warning("%s cannot be removed: %s", file, error)
            return False
        return True

    def spool(self, data: bytes) -> str:
        """Keep a picture that came with a job; returns its SHA-256, which is its name. Raises as ``save``."""
        sha256 = hashlib.sha256(data).hexdigest()
        _write(self._inputs / sha256, data)
        return sha256

    def input(self, sha256: str) -> Path:
        """Where a spooled picture lies, or would. Raises ValueError when that is no SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
        return self._inputs / sha256

    def path(self, ref: ArtifactRef) -> Path:
        """Where a file lies. Raises ValueError for a reference that points out of the store."""
        path = self._data_dir / ref.path
        if not path.resolve().is_relative_to(self._artifacts.resolve()):
            raise ValueError(f"{ref.path!r} is not among the artifacts")
        return path


def _write(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """All of ``data`` under its name, on the disk when it is durable, or nothing."""
    with suppress(FileNotFoundError):
        if path.stat().st_size == len(data):
            os.utime(path)  # a sweep of files that nobody refers to looks at their age
            if is_durable:
                sync_directory(path.parent)  # who wrote it may not have come to that yet
            return
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_directory(path.parent, is_durable=is_durable)
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if is_durable:
            sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        if is_full(error):
            log.error("no room is left for %s: %s", path, error)
            raise DiskFull("the server's disk is full: the picture could not be kept") from None
        raise


def _entries(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as found:
            return list(found)
    except FileNotFoundError:
        return []
