"""What a stand-in worker draws: real files of one colour, keyed by seed, as the prompt orders."""

from __future__ import annotations

import threading
import time
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks.artifacts import ArtifactStore
from tasks.claim import Claim
from tasks.engines import Verdict
from tasks.errors import PictureUnreadable, WorkerLost
from tasks.events import Finished, Loading, Preview, StepDone, Timings, Usage
from tasks.jobs import FinishReason, ImageJob
from tasks.pictures.infotext import KEYWORD, Infotext


def a_picture(kind: str = "PNG", size: tuple[int, int] = (64, 64), colour: Any = "red") -> bytes:
    """A small picture file."""
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def colour_of(seed: int) -> tuple[int, int, int]:
    return seed % 256, seed // 256 % 256, seed // 65536 % 256


def paint(claim: Claim, job: ImageJob, files: ArtifactStore, stop: threading.Event) -> None:
    """One job from its steps to its file.

    ``slow`` takes 50 ms for each step, ``wait`` goes on until it is told to stop, ``lost`` and ``damaged``
    fail, ``odd`` fails for odd seeds; everything else is drawn at once.
    """
    order = job.prompt.partition(" ")[0]
    if order == "lost" or (order == "odd" and job.seed % 2):
        raise WorkerLost("the worker process died under this job more often than allowed")
    if order == "damaged":
        raise PictureUnreadable("the PNG is damaged or cut short", param="image")
    claim.append(Loading(job.model, 3, 3))
    done = 0
    total = 1_000_000 if order == "wait" else _steps(job)
    while done < total:
        if claim.signals.between_steps() is not Verdict.GO_ON or stop.is_set():
            return
        if order in ("slow", "wait"):
            time.sleep(0.05 if order == "slow" else 0.01)
        done += 1
        if order != "wait" or done <= 2:
            _tell_step(claim, job, files, done, total)
    file = files.save(_file(job), job.format.media_type)
    warnings = ("the prompt was cut after 77 tokens",) if order == "long" else ()
    claim.append(
        Finished(
            FinishReason.STOP,
            Usage(len(job.prompt.split()) + 2, 0),
            Timings(text_ms=1.0, steps_ms=4.0, pixels_ms=2.0, file_ms=1.0),
            (file,),
            warnings,
        )
    )


def _steps(job: ImageJob) -> int:
    return job.steps if job.source is None else int(job.steps * job.source.strength)


def _tell_step(claim: Claim, job: ImageJob, files: ArtifactStore, done: int, total: int) -> None:
    claim.append(StepDone(done, total))
    if job.previews and done < total:
        small = a_picture("JPEG", (16, 16), (done * 40, 0, 0))
        claim.append(Preview(done, files.save(small, "image/jpeg")))


def _file(job: ImageJob) -> bytes:
    image, file = Image.new("RGB", (job.width_px, job.height_px), colour_of(job.seed)), BytesIO()
    if job.format.value == "png":
        info = PngInfo()
        fields = {"Steps": str(job.steps), "Seed": str(job.seed), "Size": f"{job.width_px}x{job.height_px}"}
        info.add_text(KEYWORD, str(Infotext(job.prompt, job.negative_prompt, fields)))
        image.save(file, "PNG", pnginfo=info)
    else:
        image.save(file, job.format.value.upper(), quality=job.quality or 90)
    return file.getvalue()
