"""The answer to a request for pictures, in the web UI's words: ``images``, ``parameters``, ``info``.

``parameters`` is what was asked, with the values that were really used; ``info`` is JSON in a text, and tells
how each picture was made, the ids of the jobs and everything that had no effect.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from api.a1111.checkpoints import short_hash
from api.a1111.names import SAMPLER, SCHEDULER
from api.a1111.schemas import GenerateRequest, Img2ImgRequest
from api.context import VERSION
from tasks.board import Model
from tasks.jobs import ImageJob
from tasks.pictures.infotext import KEYWORD
from tasks.pictures.texts import read_texts


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that was finished: its job and its file."""

    job: ImageJob
    data: bytes

    @property
    def infotext(self) -> str:
        """What the file itself tells of how it was made."""
        return read_texts(self.data).get(KEYWORD, "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer is made of: ``jobs`` are the pictures that were asked for, ``drawn`` those there are."""

    asked: GenerateRequest
    model: Model
    jobs: Sequence[ImageJob]
    drawn: Sequence[Drawn]
    warnings: Sequence[str]

    def body(self) -> bytes:
        """The JSON; what JSON has no word for (an infinite number in ``override_settings``) becomes null."""
        images = (
            [base64.b64encode(each.data).decode() for each in self.drawn] if self.asked.send_images else []
        )
        return to_json({"images": images, "parameters": self._parameters(), "info": json.dumps(self._info())})

    def _parameters(self) -> dict[str, Any]:
        asked, first = self.asked, self.jobs[0]
        echo = asked.model_dump() | {
            "seed": first.seed,
            "steps": first.steps,
            "cfg_scale": first.guidance_scale,
            "width": first.width_px,
            "height": first.height_px,
            "sampler_name": SAMPLER,
            "sampler_index": SAMPLER,
            "scheduler": SCHEDULER,
        }
        if isinstance(asked, Img2ImgRequest) and not asked.include_init_images:
            echo |= {"init_images": None, "mask": None}
        return echo

    def _info(self) -> dict[str, Any]:
        first, shown = self.jobs[0], [each.job for each in self.drawn] or list(self.jobs)
        return {
            "prompt": first.prompt,
            "all_prompts": [job.prompt for job in shown],
            "negative_prompt": first.negative_prompt,
            "all_negative_prompts": [job.negative_prompt for job in shown],
            "seed": first.seed,
            # As many as there are pictures, so that the same place in both is the same picture.
            "all_seeds": [job.seed for job in shown],
            "subseed": first.seed,
            "all_subseeds": [job.seed for job in shown],
            "subseed_strength": 0,
            "width": first.width_px,
            "height": first.height_px,
            "sampler_name": SAMPLER,
            "cfg_scale": first.guidance_scale,
            "steps": first.steps,
            "batch_size": self.asked.batch_size,
            "restore_faces": False,
            "face_restoration_model": None,
            "sd_model_name": self.model.id,
            "sd_model_hash": short_hash(self.model),
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": -1,
            "seed_resize_from_h": -1,
            "denoising_strength": None if first.source is None else first.source.strength,
            "extra_generation_params": {"Schedule type": SCHEDULER, "warnings": list(self.warnings)},
            "index_of_first_image": 0,
            "infotexts": [each.infotext for each in self.drawn],
            "styles": [],
            "job_timestamp": time.strftime(
                "%Y%m%d%H%M%S", time.localtime(first.submission.created_at_ms / 1000)
            ),
            "clip_skip": 1,
            "is_using_inpainting_conditioning": False,
            "version": f"Hearth {VERSION}",
            "job_ids": [job.submission.id for job in self.jobs],
        }
