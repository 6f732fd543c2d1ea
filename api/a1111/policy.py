"""What becomes of every field: it is honoured, reported, or refused. Pure: no picture and no queue in sight.

A consistency model with a fixed UNet draws with one sampler, in the steps it has time inputs for, at the
sizes it was compiled for, and almost without guidance. What would make another picture and cannot be done is
refused; what every client sends and has no meaning here is told among the warnings. The table for people:
docs/a1111.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from api.a1111.names import SAMPLER, is_ours, is_sampler, is_scheduler
from api.a1111.options import Options
from api.a1111.schemas import GenerateRequest, Img2ImgRequest
from api.errors import Refusal
from api.openai.faults import missing, unsupported
from api.pictures.drawing import Drawing, Origin
from tasks.board import Pictures, PictureSize
from tasks.jobs import Resize

NAMES = {
    "n": "batch_size",
    "size": "width",
    "guidance_scale": "cfg_scale",
    "strength": "denoising_strength",
    "image": "init_images",
    "quality": "jpeg_quality",
}
"""This dialect's words for the fields of a ``Drawing``."""

RESIZES = {0: Resize.STRETCH, 1: Resize.CROP, 2: Resize.FILL}
_GUIDANCE = (1.0, 2.0)
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet)\s*:", re.IGNORECASE)
_WEIGHT = re.compile(r"(?<!\\)[(\[]")


def drawing(
    asked: GenerateRequest, options: Options, can: Pictures, origin: Origin | None, notes: Sequence[str] = ()
) -> Drawing:
    """What is to be drawn, with a warning for everything that is reported, ``notes`` among them.

    Call ``refuse`` first.
    """
    notes = [*_warnings(asked), *notes]
    steps = _steps(asked, can, notes)
    return Drawing(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        size=_size(asked, can),
        steps=steps,
        seed=None if asked.seed == -1 else asked.seed,
        guidance_scale=_guidance(asked.cfg_scale, notes),
        origin=origin,
        format=options.format,
        quality=options.quality,
        previews=options.live_previews_enable,
        warnings=tuple(notes),
    )


def _size(asked: GenerateRequest, can: Pictures) -> PictureSize:
    """The size that was asked for, to the pixel; the model's own where nothing was said."""
    own = next(
        (
            size
            for size in can.sizes
            if asked.width in (None, size.width_px) and asked.height in (None, size.height_px)
        ),
        can.sizes[0],
    )
    return PictureSize(asked.width or own.width_px, asked.height or own.height_px)


def _steps(asked: GenerateRequest, can: Pictures, notes: list[str]) -> int | None:
    """The nearest number of steps the model has; of two as near, the higher."""
    if asked.steps is None or asked.steps in can.steps:
        return asked.steps
    wanted = asked.steps
    nearest = min(can.steps, key=lambda steps: (abs(steps - wanted), -steps))
    notes.append(f"steps is {nearest} instead of {wanted}: this model draws in {_any_of(can.steps)}")
    return nearest


def _guidance(cfg_scale: float, notes: list[str]) -> float:
    least, most = _GUIDANCE
    if least <= cfg_scale <= most:
        return cfg_scale
    notes.append(f"cfg_scale is 1 instead of {cfg_scale:g}: this kind of model takes {least:g} to {most:g}")
    return least


def _any_of(numbers: Sequence[int]) -> str:
    *rest, last = map(str, sorted(numbers))
    return f"{', '.join(rest)} or {last}" if rest else last


_REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "subseed_strength",
        lambda value: value == 0,
        "variations between two seeds are not supported; leave it 0",
    ),
    ("restore_faces", lambda value: not value, "there is no face restorer here"),
    ("tiling", lambda value: not value, "this model cannot draw tiles"),
    ("styles", lambda value: not any(value), "there are no styles here; write them into the prompt"),
    (
        "refiner_checkpoint",
        lambda value: value in ("", "None"),
        "refining with a second model is not supported",
    ),
    ("firstpass_image", lambda value: not value, "is not supported; use img2img"),
    ("infotext", lambda value: not value, "is not read; send the fields themselves"),
    (
        "enable_hr",
        lambda value: not value,
        "pictures are drawn at the model's own sizes; enlarge them yourself",
    ),
    ("controlnet_units", lambda value: not value, "there is no ControlNet here"),
    ("latent_mask", lambda value: not value, "is not supported; use 'mask'"),
    (
        "inpainting_mask_invert",
        lambda value: not value,
        "is not supported; send the mask the other way round",
    ),
    ("initial_noise_multiplier", lambda value: value in (None, 1), "is always 1 here"),
)
"""Fields that would make another picture: what may stand there, else what we say."""


def refuse(asked: GenerateRequest) -> None:
    """Raises Refusal for the first field that asks for something that cannot be given."""
    for name, is_neutral, message in _REFUSED:
        if not is_neutral(getattr(asked, name, None)):
            raise unsupported(name, message)
    for name in ("seed_resize_from_w", "seed_resize_from_h"):
        if getattr(asked, name) > 0:
            raise unsupported(name, "seeds of another size are not supported; leave it 0")
    _refuse_names(asked)
    _refuse_extensions(asked)


def _refuse_names(asked: GenerateRequest) -> None:
    if asked.sampler and not is_sampler(asked.sampler):
        raise Refusal("sampler_not_found", "Sampler not found", "sampler_name")
    if asked.scheduler and not is_scheduler(asked.scheduler):
        raise Refusal("sampler_not_found", "Scheduler not found", "scheduler")


def _refuse_extensions(asked: GenerateRequest) -> None:
    if asked.script_name not in ("", "None"):
        raise unsupported("script_name", f"Script {asked.script_name[:60]!a} not found")
    for name, script in asked.alwayson_scripts.items():
        if not _is_off(script):
            raise unsupported("alwayson_scripts", f"there is no script {name[:60]!a} here; switch it off")
    for name in ("prompt", "negative_prompt"):
        if _NETWORK.search(getattr(asked, name)):
            raise unsupported(name, "there are no LoRAs, LyCORIS or hypernetworks here")


def _is_off(script: Any) -> bool:
    """Whether an extension's arguments leave it out: none, a first one of False, or units all disabled.

    webuiapi sends such arguments for every extension that it was ever told of.
    """
    arguments = script.get("args") if isinstance(script, dict) else script
    if isinstance(arguments, dict):
        return arguments.get("enabled") is False
    if not isinstance(arguments, list):
        return not arguments
    if not arguments or arguments[0] is False:
        return True
    return all(isinstance(unit, dict) and unit.get("enabled") is False for unit in arguments)


_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "eta": (None, 0, 1),
    "s_churn": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "comments": ({},),
}
"""Numbers of other samplers, and the values at which nobody minds that there is no such thing here."""


def _warnings(asked: GenerateRequest) -> Iterator[str]:
    """One sentence for everything that was asked for and has no effect."""
    if asked.sampler and not is_ours(asked.sampler):
        yield f"sampler_name is {SAMPLER} instead of {asked.sampler}: this kind of model has no other"
    if asked.scheduler and not is_ours(asked.scheduler):
        yield f"scheduler is Automatic instead of {asked.scheduler}: this kind of model has no other"
    for name, neutral in _WITHOUT_EFFECT.items():
        if getattr(asked, name) not in neutral:
            yield f"{name} has no effect on this server"
    if _WEIGHT.search(asked.prompt):
        yield "parentheses and brackets in the prompt are read as they stand: words have no weights here"
    if asked.do_not_save_samples:
        yield "do_not_save_samples has no effect: every picture is kept for a while under its job"
    if asked.override_settings and not asked.override_settings_restore_afterwards:
        yield "override_settings hold for this request only; POST options to keep them"
    if isinstance(asked, Img2ImgRequest) and asked.mask:
        yield from _mask_warnings(asked)


def _mask_warnings(asked: Img2ImgRequest) -> Iterator[str]:
    if asked.mask_blur if asked.mask_blur is not None else asked.mask_blur_x or asked.mask_blur_y:
        yield "mask_blur has no effect: the mask's edges are taken as they are"
    if asked.inpainting_fill != 1:
        yield "inpainting_fill is 1: what is redrawn begins with the picture itself"
    if asked.inpaint_full_res:
        yield "inpaint_full_res has no effect: the whole picture is drawn at its own size"


def resize_of(asked: Img2ImgRequest) -> Resize:
    """How the picture to start from is made to fit. Raises Refusal."""
    if asked.resize_mode not in RESIZES:
        raise unsupported("resize_mode", "3 (latent upscale) is not supported; take 0, 1 or 2")
    return RESIZES[asked.resize_mode]


def init_image(asked: Img2ImgRequest) -> str:
    """The one picture to start from. Raises Refusal."""
    if not asked.init_images:
        raise missing("init_images")
    if len(asked.init_images) > 1:
        raise unsupported(
            "init_images", "one picture per request; send several requests for several pictures"
        )
    return asked.init_images[0]
