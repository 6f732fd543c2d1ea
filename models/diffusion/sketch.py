"""A picture that has left the card: plain pixels until it is a file, so that it is drawn only once."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from models.diffusion.image import DEFAULT_QUALITY, Pixels, encode
from tasks.artifacts import ArtifactStore
from tasks.events import Finished, Timings, Usage
from tasks.jobs import FinishReason, ImageJob, JobId

log = logging.getLogger("hearth.pictures")


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the card has made of a job. ``pixels``: uint8[height, width, 3]; ``text`` goes into the file."""

    pixels: Pixels
    text: str
    usage: Usage
    timings: Timings
    warnings: tuple[str, ...]


class Spool:
    """Drawings that are not files yet: who follows a dead process finds them here.

    They are for a process that died, not for a power cut: nothing is synchronised, and what is not whole is
    not found.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._path = store.drawing

    def keep(self, job_id: JobId, drawing: Drawing) -> None:
        """Write it down. A disk that takes nothing is only logged: the file's own writing tells of it."""
        path = self._path(job_id)
        unfinished = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(_header(drawing))
                file.write(np.ascontiguousarray(drawing.pixels).data)
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            log.warning("job %s: its pixels could not be put aside: %s", job_id, error)

    def find(self, job_id: JobId) -> Drawing | None:
        """What an earlier attempt at the job has drawn, if it is whole."""
        try:
            data = self._path(job_id).read_bytes()
        except OSError:
            return None
        head, _, body = data.partition(b"\n")
        try:
            return _drawing(json.loads(head), body)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("job %s: the pixels that were put aside are damaged (%s)", job_id, error)
            self.discard(job_id)
            return None

    def discard(self, job_id: JobId) -> None:
        """Forget the drawing, if there is one."""
        with suppress(OSError):
            self._path(job_id).unlink(missing_ok=True)


def _header(drawing: Drawing) -> bytes:
    pixels = np.ascontiguousarray(drawing.pixels)
    about = {
        "v": 1,
        "shape": pixels.shape,
        "sha256": hashlib.sha256(pixels.data).hexdigest(),
        "text": drawing.text,
        "usage": asdict(drawing.usage),
        "timings": asdict(drawing.timings),
        "warnings": drawing.warnings,
    }
    return json.dumps(about).encode() + b"\n"


def _drawing(about: Mapping[str, Any], body: bytes) -> Drawing:
    if hashlib.sha256(body).hexdigest() != about["sha256"]:
        raise ValueError("they are not what was written")
    return Drawing(
        np.frombuffer(body, np.uint8).reshape(about["shape"]),
        about["text"],
        Usage(**about["usage"]),
        Timings(**about["timings"]),
        tuple(about["warnings"]),
    )


@dataclass(frozen=True, slots=True)
class PictureSketch:
    """Satisfies ``tasks.engines.Sketch``: pixels on the host, free of the card and of its thread."""

    job: ImageJob
    drawing: Drawing
    store: ArtifactStore
    spool: Spool

    def keep(self) -> None:
        self.spool.keep(self.job.submission.id, self.drawing)

    def finish(self) -> Finished:
        """Raises DiskFull, and OSError for whatever else keeps the file from the disk."""
        began_s = time.monotonic()
        drawing, kind = self.drawing, self.job.format
        quality = DEFAULT_QUALITY if self.job.quality is None else self.job.quality
        warnings = drawing.warnings
        try:
            data = encode(drawing.pixels, kind, text=drawing.text, quality=quality)
        except ValueError:
            data = encode(drawing.pixels, kind, quality=quality)
            warnings = (*warnings, f"the prompt is too long to be kept inside a {kind.value.upper()} file")
        picture = self.store.save(data, kind.media_type)
        timings = replace(drawing.timings, file_ms=(time.monotonic() - began_s) * 1000)
        return Finished(FinishReason.STOP, drawing.usage, timings, (picture,), warnings)

    def discard(self) -> None:
        self.spool.discard(self.job.submission.id)
