"""One picture being drawn: from token ids through the latent to pixels, call by call."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config.version import VERSION
from hardware.card import Tensors
from models.diffusion import calls, lcm
from models.diffusion.graphs import GraphSet
from models.diffusion.image import encode, from_pixels, to_pixels
from models.diffusion.latent import for_decoder, from_moments
from models.diffusion.noise import NoiseAhead
from models.diffusion.package import PictureModel
from models.diffusion.plan import Plan
from models.diffusion.preview import preview
from models.diffusion.sketch import Drawing
from models.diffusion.tokens import PromptTokenizer, PromptTokens
from tasks.artifacts import ArtifactStore
from tasks.engines import Signals, Verdict
from tasks.errors import EngineError
from tasks.events import Event, Preview, StepDone, Timings, Usage
from tasks.pictures.header import PictureFormat
from tasks.pictures.infotext import Infotext

SAMPLER = "LCM"
_PREVIEW_PX = 256
"""Longest side of a preview."""
_PREVIEW_QUALITY = 80
_TEXTS_KEPT = 16
"""Encoded prompts that are remembered, 240 kB each: a grid of pictures asks for few prompts many times."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Easel:
    """One size of a model, on the card and ready to draw."""

    model: PictureModel
    graphs: GraphSet
    tokenizer: PromptTokenizer
    sha256: str


class TextCache:
    """What the text encoder made of the last prompts."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[Path, bytes], Floats] = OrderedDict()

    def encoded(self, tokens: PromptTokens, easel: Easel, signals: Signals) -> Floats | Verdict:
        """float32[1, tokens, width] of a prompt, from the card when it is not remembered."""
        key = (easel.model.variant.text_encoder, tokens.ids.tobytes())
        if key not in self._texts:
            text = easel.model.geometry.text
            made = calls.call(
                easel.graphs.text, {text.ids.name: tokens.ids.astype(text.ids.numpy_dtype)}, signals
            )
            if isinstance(made, Verdict):
                return made
            self._texts[key] = made[text.hidden.name]
            if len(self._texts) > _TEXTS_KEPT:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]


class Brush:
    """One job being drawn. What may be told to stop returns the verdict in place of its result."""

    def __init__(
        self,
        name: str,
        easel: Easel,
        plan: Plan,
        signals: Signals,
        texts: TextCache,
        store: ArtifactStore,
        timings: Timings,
        thread: Executor,
    ) -> None:
        self._name = name
        self._easel = easel
        self._plan = plan
        self._signals = signals
        self._cache = texts
        self._store = store
        self._timings = timings
        self._began_s = time.monotonic()
        # Drawn in this order: of the source's latent, of the beginning, of each step but the last.
        self._noise = NoiseAhead(plan.job.seed, easel.model.geometry.latent_shape, thread)

    def draw(self) -> Generator[Event, None, Drawing | Verdict]:
        texts = self._texts()
        if isinstance(texts, Verdict):
            return texts
        self._lap("text_ms")
        known = self._source()
        if isinstance(known, Verdict):
            return known
        self._lap("source_ms")
        latent = yield from self._denoise(texts, known)
        if isinstance(latent, Verdict):
            return latent
        self._lap("steps_ms")
        return self._finish(latent)

    def _texts(self) -> tuple[Floats, Floats | None] | Verdict:
        """The prompt and, when each step takes two passes, the negative one."""
        made: list[Floats] = []
        for tokens in (self._plan.prompt, self._plan.negative):
            if tokens is not None:
                hidden = self._cache.encoded(tokens, self._easel, self._signals)
                if isinstance(hidden, Verdict):
                    return hidden
                made.append(hidden)
        return made[0], made[1] if len(made) > 1 else None

    def _source(self) -> Floats | Verdict | None:
        """The latent of the picture to start from."""
        half, encoder = self._easel.model.geometry.encoder, self._easel.graphs.encoder
        if self._plan.beginning is None or half is None or encoder is None:
            return None
        feeds = {half.image.name: from_pixels(self._plan.beginning.pixels)}
        made = calls.call(encoder, feeds, self._signals)
        if isinstance(made, Verdict):
            return made
        return from_moments(made[half.latent.name], self._noise.draw())

    def _denoise(
        self, texts: tuple[Floats, Floats | None], known: Floats | None
    ) -> Generator[Event, None, Floats | Verdict]:
        plan, schedule = self._plan, self._plan.schedule
        noise = self._noise.draw()
        latent = noise if known is None else lcm.add_noise(known, noise, schedule[0])
        for index, timestep in enumerate(schedule):
            epsilon = self._epsilon(latent, timestep, texts)
            if isinstance(epsilon, Verdict):
                return epsilon
            step = lcm.advance(latent, epsilon, schedule, index, self._noise.draw)
            latent = self._keep_masked(step.latent, known, noise, index)
            yield StepDone(index + 1, len(schedule))
            if plan.job.previews and index + 1 < len(schedule):
                yield from self._preview(step.estimate, index + 1)
        return latent

    def _epsilon(
        self, latent: Floats, timestep: int, texts: tuple[Floats, Floats | None]
    ) -> Floats | Verdict:
        prompt, negative = texts
        prompted = self._unet(latent, timestep, prompt)
        if negative is None or isinstance(prompted, Verdict):
            return prompted
        without = self._unet(latent, timestep, negative)
        if isinstance(without, Verdict):
            return without
        return lcm.guided(without, prompted, self._plan.job.guidance_scale)

    def _unet(self, latent: Floats, timestep: int, text: Floats) -> Floats | Verdict:
        unet = self._easel.model.geometry.unet
        time_input = self._easel.model.times.feed(timestep)
        feeds: Tensors = {unet.sample.name: latent, unet.time.name: time_input, unet.text.name: text}
        made = calls.call(self._easel.graphs.unet, feeds, self._signals)
        return made if isinstance(made, Verdict) else made[unet.epsilon.name]

    def _keep_masked(self, latent: Floats, known: Floats | None, noise: Floats, index: int) -> Floats:
        """The latent with the source's own, as noisy as the next step wants it, where the mask is black."""
        beginning, schedule = self._plan.beginning, self._plan.schedule
        if known is None or beginning is None or beginning.mask is None:
            return latent
        is_last = index + 1 == len(schedule)
        kept = known if is_last else lcm.add_noise(known, noise, schedule[index + 1])
        return beginning.mask.blend(latent, kept)

    def _finish(self, latent: Floats) -> Drawing | Verdict:
        half = self._easel.model.geometry.decoder
        feeds = {half.latent.name: for_decoder(latent)}
        made = calls.call(self._easel.graphs.decoder, feeds, self._signals)
        if isinstance(made, Verdict):
            return made
        try:
            pixels = to_pixels(made[half.image.name])
        except ValueError as error:
            raise EngineError(str(error)) from None
        plan = self._plan
        if plan.beginning is not None and plan.beginning.mask is not None:
            pixels = plan.beginning.mask.paste(pixels, plan.beginning.pixels)
        self._lap("pixels_ms")
        text = infotext(plan, self._name, self._easel.sha256)
        counts = [tokens.count for tokens in (plan.prompt, plan.negative) if tokens is not None]
        return Drawing(pixels, text, Usage(sum(counts), 0), self._timings, plan.warnings)

    def _preview(self, estimate: Floats, step: int) -> Iterator[Preview]:
        """How the picture comes along, as a small file; nothing when the latent's colours are not known."""
        job, matrix = self._plan.job, self._easel.model.preview
        if matrix is None:
            return
        scale = min(1.0, _PREVIEW_PX / max(job.height_px, job.width_px))
        size = (round(job.height_px * scale), round(job.width_px * scale))
        data = encode(preview(estimate, matrix, size), PictureFormat.JPEG, quality=_PREVIEW_QUALITY)
        yield Preview(step, self._store.save_preview(job.submission.id, data, "image/jpeg"))

    def _lap(self, name: str) -> None:
        now_s = time.monotonic()
        self._timings = replace(self._timings, **{name: (now_s - self._began_s) * 1000})
        self._began_s = now_s


def infotext(plan: Plan, name: str, sha256: str) -> str:
    """What the file says of how it was made, in the words of AUTOMATIC1111's web UI."""
    job = plan.job
    fields = {
        "Steps": str(job.steps),
        "Sampler": SAMPLER,
        "CFG scale": f"{job.guidance_scale:g}",
        "Seed": str(job.seed),
        "Size": f"{job.width_px}x{job.height_px}",
        "Model hash": sha256[:10],
        "Model": name,
    }
    if job.source is not None:
        fields["Denoising strength"] = f"{job.source.strength:g}"
    fields |= {"RNG": "CPU", "Version": f"Hearth {VERSION}"}
    return str(Infotext(job.prompt, job.negative_prompt if plan.negative else "", fields))
