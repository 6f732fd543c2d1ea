"""What a job comes to with one model: everything that can be known, and refused, before the card is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.diffusion import lcm
from models.diffusion.image import Pixels, ResizeMode, decode, decode_transparency, fit
from models.diffusion.mask import Mask
from models.diffusion.package import PictureModel
from models.diffusion.tokens import PromptTokenizer, PromptTokens
from tasks.artifacts import ArtifactStore
from tasks.errors import PictureUnreadable, Unsupported
from tasks.jobs import ImageJob, MaskBy, Resize
from tasks.pictures.header import PictureRefused

MAX_GUIDANCE = 2.0
"""Beyond this, a model distilled for few steps only burns its colours. Source: latent-consistency/
lcm-lora-sdv1-5, README.md: "guidance_scale … in [1.0, 2.0]"."""

_MODES = {Resize.STRETCH: ResizeMode.STRETCH, Resize.CROP: ResizeMode.CROP, Resize.FILL: ResizeMode.FILL}
_MASKS: Mapping[MaskBy, Callable[[bytes], Pixels]] = {
    MaskBy.WHITE: decode,
    MaskBy.TRANSPARENT: decode_transparency,
}
_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Beginning:
    """The picture to start from, at the size that is drawn: uint8[height, width, 3]."""

    pixels: Pixels
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Plan:
    """``schedule``: the timesteps to take. ``negative`` is there when each step takes two passes."""

    job: ImageJob
    schedule: tuple[int, ...]
    prompt: PromptTokens
    negative: PromptTokens | None
    beginning: Beginning | None
    warnings: tuple[str, ...]


def make_plan(job: ImageJob, model: PictureModel, tokenizer: PromptTokenizer, store: ArtifactStore) -> Plan:
    """Raises Unsupported or PictureUnreadable, naming the field at fault."""
    schedule = _schedule(job, model)
    if not 1 <= job.guidance_scale <= MAX_GUIDANCE:
        raise Unsupported(
            f"guidance_scale must be from 1 to {MAX_GUIDANCE:g} for a model of few steps, not "
            f"{job.guidance_scale:g}",
            param="guidance_scale",
        )
    is_guided = job.guidance_scale > 1
    length = model.geometry.tokens
    prompt = tokenizer.tokens(job.prompt, length)
    negative = tokenizer.tokens(job.negative_prompt, length) if is_guided else None
    warnings = [*_cut("prompt", prompt, length), *(_cut("negative prompt", negative, length))]
    if job.previews and model.preview is None:
        warnings.append("the colours of this model's latents are not known: there were no previews")
    return Plan(job, schedule, prompt, negative, _beginning(job, model, store), tuple(warnings))


def _schedule(job: ImageJob, model: PictureModel) -> tuple[int, ...]:
    offered = model.times.steps
    if job.steps not in offered:
        raise Unsupported(f"this model draws in {_list(offered)} steps, not {job.steps}", param="steps")
    if job.source is None:
        return lcm.timesteps(job.steps)
    strength = job.source.strength
    if not 0 < strength <= 1:
        raise Unsupported(f"strength must be above 0 and at most 1, not {strength:g}", param="strength")
    if lcm.kept_steps(job.steps, strength) == 0:
        raise Unsupported(
            f"a strength of {strength:g} leaves nothing to draw of {job.steps} steps: use "
            f"{1 / job.steps:g} or more",
            param="strength",
        )
    return lcm.timesteps_from(job.steps, strength)


def _beginning(job: ImageJob, model: PictureModel, store: ArtifactStore) -> Beginning | None:
    source = job.source
    if source is None:
        return None
    if model.geometry.encoder is None:
        raise Unsupported("this model only draws from text: it has no VAE encoder", param="image")
    size = (job.height_px, job.width_px)
    mode = _MODES[source.resize]
    pixels = fit(_read(store.input, source.sha256, "image", decode), size, mode)
    if source.mask_sha256 is None:
        return Beginning(pixels, None)
    picture = fit(_read(store.input, source.mask_sha256, "mask", _MASKS[source.mask_by]), size, mode)
    return Beginning(pixels, Mask.of(picture, *model.geometry.latent_shape[2:]))


def _read(
    where: Callable[[str], Path], sha256: str, param: str, decoding: Callable[[bytes], Pixels]
) -> Pixels:
    try:
        return decoding(where(sha256).read_bytes())
    except PictureRefused as error:
        raise PictureUnreadable(f"the {param} cannot be read: {error}", param=param) from None
    except (OSError, ValueError) as error:
        raise PictureUnreadable(
            f"the {param} that came with this job is not there any more: send it again", param=param
        ) from error


def _cut(what: str, tokens: PromptTokens | None, length: int) -> list[str]:
    if tokens is None or not tokens.ignored:
        return []
    shown = tokens.ignored[:_SHOWN_CHARS] + ("…" if len(tokens.ignored) > _SHOWN_CHARS else "")
    return [
        f"the {what} has {tokens.count} tokens and the model reads {length - 2}: "
        f"everything from {shown!r} on was ignored"
    ]


def _list(numbers: tuple[int, ...]) -> str:
    if len(numbers) > 8 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
