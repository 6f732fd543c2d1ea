"""What the graphs of a picture model say about it: sizes, names and element types.

Tensors are told apart by their rank and size, not by name: builds of the same model call them differently.
Expected of Stable Diffusion 1.5 (Source: AXERA-TECH/sd1.5-lcm.axera@f21251d, model_convert/):

    text encoder  input_ids i32[1, 77]                                → f32[1, 77, 768]
    UNet          sample f32[1, 4, h, w], time f32[1, 1280], text f32[1, 77, 768] → epsilon f32[1, 4, h, w]
    VAE decoder   x f32[1, 4, h, w]                                   → f32[1, 3, H, W]
    VAE encoder   image_sample f32[1, 3, H, W]                        → mean and logvar, f32[1, 8, h, w]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware.card import ShapeGroup, TensorSpec
from models.manifest import PackageProblem

_IDS = frozenset({"i32", "u32", "i64"})
_UNET_RANKS = {4: "sample", 2: "time input", 3: "text"}


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Of a picture, in pixels. Directories are named height×width; people and clients say width×height."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class TextGeometry:
    """``ids``: integers[1, tokens]; ``hidden``: f32[1, tokens, width], among the graph's outputs."""

    ids: TensorSpec
    hidden: TensorSpec


@dataclass(frozen=True, slots=True)
class UnetGeometry:
    """``sample`` and ``epsilon``: f32[1, channels, h, w]; ``time``: f32[1, width]; ``text`` as encoded."""

    sample: TensorSpec
    time: TensorSpec
    text: TensorSpec
    epsilon: TensorSpec


@dataclass(frozen=True, slots=True)
class VaeGeometry:
    """One half of the VAE: the decoder takes ``latent`` and gives ``image``, the encoder the reverse.

    ``image``: f32[1, 3, height, width]. ``latent``: f32[1, channels, h, w]; of an encoder with twice the
    channels, mean and logvar.
    """

    latent: TensorSpec
    image: TensorSpec


@dataclass(frozen=True, slots=True)
class Geometry:
    """A whole picture model at one size. ``encoder`` is None when it only draws from text."""

    text: TextGeometry
    unet: UnetGeometry
    decoder: VaeGeometry
    encoder: VaeGeometry | None

    @property
    def size(self) -> Size:
        return Size(*self.decoder.image.shape[2:])

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(1, channels, h, w): what noise is drawn for."""
        return self.unet.sample.shape

    @property
    def time_width(self) -> int:
        return self.unet.time.shape[1]

    @property
    def tokens(self) -> int:
        """Of a prompt, the two at its ends included."""
        return self.text.ids.shape[1]


def read_text(groups: Sequence[ShapeGroup]) -> TextGeometry:
    """Raises PackageProblem when the graph does not turn token ids into a row for each."""
    group = groups[0]
    if len(group.inputs) != 1 or group.inputs[0].dtype not in _IDS or len(group.inputs[0].shape) != 2:
        raise _stranger("text encoder", group.inputs, "one row of token ids (i32[1, 77])")
    rows = [spec for spec in group.outputs if len(spec.shape) == 3]
    tokens = group.inputs[0].shape[1]
    if len(rows) != 1 or rows[0].shape[:2] != (1, tokens) or rows[0].dtype != "f32":
        raise _stranger("text encoder", group.outputs, f"one vector for each token (f32[1, {tokens}, …])")
    return TextGeometry(group.inputs[0], rows[0])


def read_unet(groups: Sequence[ShapeGroup]) -> UnetGeometry:
    """Raises PackageProblem when the graph is no UNet with its time embedding outside."""
    group = groups[0]
    by_rank = {len(spec.shape): spec for spec in group.inputs}
    if len(group.inputs) != len(_UNET_RANKS) or by_rank.keys() != _UNET_RANKS.keys():
        wanted = (
            "a latent, a row of time inputs and the text (f32[1, 4, h, w], f32[1, 1280], f32[1, 77, 768])"
        )
        raise _stranger("UNet", group.inputs, wanted)
    sample, epsilon = by_rank[4], group.outputs[0]
    _check_floats("UNet", (*group.inputs, epsilon))
    if epsilon.shape != sample.shape or sample.shape[0] != 1:
        raise _stranger("UNet", group.outputs, f"noise of the latent's shape {_shape(sample)}, one at a time")
    return UnetGeometry(sample, by_rank[2], by_rank[3], epsilon)


def read_decoder(groups: Sequence[ShapeGroup]) -> VaeGeometry:
    """Raises PackageProblem when the graph does not turn a latent into a picture."""
    latent, image = _vae_half("VAE decoder", groups[0])
    if image.shape[1] != 3 or image.shape[2] <= latent.shape[2]:
        raise _stranger("VAE decoder", groups[0].outputs, "an RGB picture larger than the latent")
    return VaeGeometry(latent, image)


def read_encoder(groups: Sequence[ShapeGroup]) -> VaeGeometry:
    """Raises PackageProblem when the graph does not turn a picture into moments of a latent."""
    image, latent = _vae_half("VAE encoder", groups[0])
    if image.shape[1] != 3 or image.shape[2] <= latent.shape[2] or latent.shape[1] % 2:
        raise _stranger("VAE encoder", groups[0].outputs, "mean and logvar of a latent (f32[1, 8, h, w])")
    return VaeGeometry(latent, image)


def combine(
    text: TextGeometry, unet: UnetGeometry, decoder: VaeGeometry, encoder: VaeGeometry | None
) -> Geometry:
    """Raises PackageProblem when the graphs are not of one model at one size."""
    sample = unet.sample.shape
    if unet.text.shape != text.hidden.shape:
        raise PackageProblem(
            f"the text encoder gives {_shape(text.hidden)}, the UNet takes {_shape(unet.text)}: files of two "
            "models?"
        )
    if decoder.latent.shape != sample:
        raise PackageProblem(
            f"its VAE decoder is for latents {_shape(decoder.latent)}, its UNet for {_shape(unet.sample)}: "
            "files of two sizes are mixed, download this size again"
        )
    if encoder:
        _check_encoder(encoder, decoder)
    return Geometry(text, unet, decoder, encoder)


def _check_encoder(encoder: VaeGeometry, decoder: VaeGeometry) -> None:
    taken, given = (Size(*half.image.shape[2:]) for half in (encoder, decoder))
    if taken != given:
        raise PackageProblem(
            f"its VAE encoder is for pictures of {taken}, its decoder for {given}: files of two sizes are "
            "mixed, download this size again"
        )
    one, channels, height, width = decoder.latent.shape
    if encoder.latent.shape != (one, 2 * channels, height, width):
        raise PackageProblem(
            f"its VAE encoder gives {_shape(encoder.latent)}, which are no moments of the decoder's "
            f"{_shape(decoder.latent)}: files of two models?"
        )


def _vae_half(role: str, group: ShapeGroup) -> tuple[TensorSpec, TensorSpec]:
    if len(group.inputs) != 1 or {len(spec.shape) for spec in (group.inputs[0], group.outputs[0])} != {4}:
        raise _stranger(role, group.inputs, "one array of rank 4")
    _check_floats(role, (group.inputs[0], group.outputs[0]))
    return group.inputs[0], group.outputs[0]


def _check_floats(role: str, specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if spec.dtype != "f32":
            raise PackageProblem(
                f"its {role} is of a kind that is not supported: {spec.name} is {spec.dtype}"
            )


def _stranger(role: str, specs: Sequence[TensorSpec], wanted: str) -> PackageProblem:
    found = ", ".join(f"{spec.name} {spec.dtype}{_shape(spec)}" for spec in specs)
    return PackageProblem(f"its {role} is of a kind that is not supported: there is {found}, not {wanted}")


def _shape(spec: TensorSpec) -> str:
    return str(list(spec.shape))
