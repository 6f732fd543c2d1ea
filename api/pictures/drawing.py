"""From what somebody wants drawn to jobs, one per picture: every check of a picture's values, once."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from api.errors import Refusal
from api.openai.faults import invalid
from api.pictures.inputs import InputPicture
from api.terms import Terms
from config.groups import LimitSettings
from config.settings import Settings
from tasks.board import Model, Pictures, PictureSize
from tasks.errors import ModelUnusable, SizeUnsupported, Unsupported
from tasks.jobs import ImageJob, MaskBy, Resize, Source, new_batch_id
from tasks.pictures.header import PictureFormat

SEEDS = 2**32
"""Seeds are 0 to 2³² − 1: torch and AUTOMATIC1111 know no others."""
DEFAULT_STRENGTH = 0.75
"""What AUTOMATIC1111 takes when a request is silent: three of four steps."""
_MOST_GUIDANCE = 2.0
"""Beyond it a consistency model's pictures burn out (facts of LCM: 1 to 2)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The picture to start from. ``strength`` is how much of it is drawn anew."""

    picture: InputPicture
    strength: float = DEFAULT_STRENGTH
    resize: Resize = Resize.STRETCH
    mask: InputPicture | None = None
    mask_by: MaskBy = MaskBy.WHITE


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is to be drawn; None is left to the package, and ``seed`` None to chance.

    ``size`` None is the size of the picture to start from, where the package draws it.
    ``warnings`` are the dialect's own: what it took and could not honour.
    """

    prompt: str
    negative_prompt: str = ""
    size: PictureSize | None = None
    steps: int | None = None
    seed: int | None = None
    guidance_scale: float = 1.0
    origin: Origin | None = None
    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    previews: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[InputPicture, ...]:
        """The pictures that are to be kept before the jobs are submitted."""
        if self.origin is None:
            return ()
        return (self.origin.picture,) if self.origin.mask is None else (self.origin.picture, self.origin.mask)


def parse_size(text: str, where: str = "size") -> PictureSize:
    """``512x768`` as a size. Raises Refusal for what is none."""
    width, by, height = text.partition("x")
    if not by or not all(side.isascii() and side.isdigit() and len(side) <= 5 for side in (width, height)):
        raise invalid(where, "WIDTHxHEIGHT in pixels, like 512x512")
    return PictureSize(int(width), int(height))


def abilities(model: Model) -> Pictures:
    """What a picture model can draw. Raises ModelUnusable for one that does not say."""
    if model.pictures is None or not model.pictures.sizes or not model.pictures.steps:
        raise ModelUnusable(f"the model '{model.id}' does not say what it can draw", param="model")
    return model.pictures


def image_jobs(
    drawing: Drawing,
    model: Model,
    terms: Terms,
    settings: Settings,
    *,
    count: int = 1,
    most: int | None = None,
    names: Mapping[str, str] | None = None,
) -> list[ImageJob]:
    """``count`` jobs with seed, seed + 1, …; more than one share a batch.

    ``most`` may be asked for at once, by default what one request of OpenAI's or A1111's may.
    ``names`` are the dialect's own words for fields (``guidance_scale``, ``strength``, ``size``, ``n``, …),
    as refusals and warnings are to call them.

    Raises:
        Refusal: a value that no model can honour; ``param`` is the field.
        SizeUnsupported, Unsupported: one that this model cannot; the message lists those it can.
        ModelUnusable: the model does not say what it can draw.
    """
    checks = _Checks(drawing, abilities(model), model, settings.limits, names or {})
    checks.all(count, most or settings.limits.pictures_per_request)
    size = drawing.size or _own_size(drawing.origin, checks.can) or checks.can.sizes[0]
    first = secrets.randbelow(SEEDS - 1) if drawing.seed is None else drawing.seed
    if count > 1 and terms.batch is None:
        terms = replace(terms, batch=new_batch_id())
    notes = (*drawing.warnings, *checks.warnings())
    return [
        ImageJob(
            terms.submission(settings, metadata=drawing.metadata, warnings=notes),
            model.id,
            prompt=drawing.prompt,
            seed=(first + index) % SEEDS,
            width_px=size.width_px,
            height_px=size.height_px,
            steps=checks.steps,
            negative_prompt=drawing.negative_prompt,
            guidance_scale=float(drawing.guidance_scale),
            source=_source(drawing.origin),
            format=drawing.format,
            quality=None if drawing.format is PictureFormat.PNG else drawing.quality,
            previews=drawing.previews,
        )
        for index in range(count)
    ]


def _own_size(origin: Origin | None, can: Pictures) -> PictureSize | None:
    """That of the picture to start from, where the model draws it."""
    if origin is None:
        return None
    size = PictureSize(origin.picture.header.width_px, origin.picture.header.height_px)
    return size if size in can.sizes else None


def _source(origin: Origin | None) -> Source | None:
    if origin is None:
        return None
    mask = None if origin.mask is None else origin.mask.sha256
    return Source(origin.picture.sha256, float(origin.strength), origin.resize, mask, origin.mask_by)


@dataclass(frozen=True, slots=True)
class _Checks:
    drawing: Drawing
    can: Pictures
    model: Model
    limits: LimitSettings
    names: Mapping[str, str]

    @property
    def steps(self) -> int:
        return self.can.default_steps if self.drawing.steps is None else self.drawing.steps

    def all(self, count: int, most: int) -> None:
        self._count(count, most)
        self._prompts()
        self._size()
        self._steps()
        self._numbers()
        if self.drawing.origin is not None:
            self._origin(self.drawing.origin)

    def warnings(self) -> Iterator[str]:
        """One sentence for each value that was given and has no effect."""
        drawing = self.drawing
        if drawing.negative_prompt and drawing.guidance_scale == 1:
            negative, guidance = self._name("negative_prompt"), self._name("guidance_scale")
            yield f"{negative} has no effect while {guidance} is 1"
        if drawing.quality is not None and drawing.format is PictureFormat.PNG:
            yield f"{self._name('quality')} has no effect on PNG, which loses nothing"

    def _name(self, field_name: str) -> str:
        return self.names.get(field_name, field_name)

    def _count(self, count: int, most: int) -> None:
        if not 1 <= count <= most:
            raise invalid(self._name("n"), f"1 to {most} pictures")

    def _prompts(self) -> None:
        for own in ("prompt", "negative_prompt"):
            text: str = getattr(self.drawing, own)
            if len(text) > self.limits.prompt_chars:
                name = self._name(own)
                raise Refusal(
                    "invalid_value",
                    f"'{name}' has {len(text)} characters: at most {self.limits.prompt_chars} are taken",
                    name,
                )

    def _size(self) -> None:
        size = self.drawing.size
        if size is not None and size not in self.can.sizes:
            known = ", ".join(map(str, self.can.sizes))
            raise SizeUnsupported(
                f"the model '{self.model.id}' does not draw {size}; its sizes: {known}",
                param=self._name("size"),
            )

    def _steps(self) -> None:
        if self.steps not in self.can.steps:
            known = ", ".join(map(str, self.can.steps))
            raise Unsupported(
                f"the model '{self.model.id}' does not draw in {self.steps} steps; it does in: {known}",
                param=self._name("steps"),
            )

    def _numbers(self) -> None:
        drawing = self.drawing
        if drawing.seed is not None and not 0 <= drawing.seed < SEEDS:
            raise invalid(self._name("seed"), f"0 to {SEEDS - 1}")
        if not 1 <= drawing.guidance_scale <= _MOST_GUIDANCE:  # false for what is no number, too
            raise invalid(self._name("guidance_scale"), f"1 to {_MOST_GUIDANCE:g}")
        if drawing.quality is not None and not 1 <= drawing.quality <= 100:
            raise invalid(self._name("quality"), "1 to 100")

    def _origin(self, origin: Origin) -> None:
        if not self.can.from_pictures:
            raise Unsupported(
                f"the model '{self.model.id}' cannot start from a picture: its package has no VAE encoder",
                param=self._name("image"),
            )
        strength = origin.strength
        if not (math.isfinite(strength) and 0 < strength <= 1):
            raise invalid(self._name("strength"), "above 0 and at most 1")
        if int(self.steps * strength) < 1:
            name = self._name("strength")
            raise Refusal(
                "invalid_value",
                f"'{name}' {strength:g} of {self.steps} steps leaves none to draw: "
                f"at least {1 / self.steps:g}",
                name,
            )
