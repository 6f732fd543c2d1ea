"""Which file of a downloaded picture model plays which role; nothing but the directory is looked at.

Taken as they are downloaded are AXERA's packages of Stable Diffusion 1.5 with LCM, one size or several:

    models/                                  512 × 512; other sizes in models_{height}x{width}/
      text_encoder/sd15_text_encoder_sim.axmodel     or beside the UNet
      tokenizer/vocab.json, merges.txt
      unet.axmodel  vae_decoder.axmodel              vae.axmodel in older ones
      vae_encoder.axmodel                            only for pictures from pictures
      time_input_txt2img.npy                         time_input.npy in older ones

Source: AXERA-TECH/sd1.5-lcm.axera, README.md and python/launcher.py at f21251d and 3053c7d. Beside them may
lie ``time_mlp.safetensors`` (for any number of steps: see ``extract``) and ``latent_rgb.npy`` (for previews,
when the VAE is another one).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import GraphRejected
from hardware.virtual.format import read_groups
from models.diffusion.geometry import (
    Geometry,
    Size,
    combine,
    read_decoder,
    read_encoder,
    read_text,
    read_unet,
)
from models.diffusion.preview import SD15, PreviewMatrix, read_matrix
from models.diffusion.times import TimeInputs, read_times
from models.llm.package import directories, refuse_pointer
from models.manifest import CompiledGraphs, PackageProblem

TIME_MLP = "time_mlp.safetensors"
PREVIEW_MATRIX = "latent_rgb.npy"

_UNET = re.compile(r"^(.*[_-])?unet([_-].*)?\.axmodel$", re.IGNORECASE)
_UNCOMPILED = re.compile(
    r"^((.*[_-])?unet([_-].*)?\.onnx|diffusion_pytorch_model.*\.safetensors)$", re.IGNORECASE
)
_TEXT_ENCODER = re.compile(r"^.*text_?encoder.*\.axmodel$", re.IGNORECASE)
_DECODERS = (
    re.compile(r"^(.*[_-])?vae_?dec.*\.axmodel$", re.IGNORECASE),
    re.compile(r"^(.*[_-])?vae\.axmodel$", re.IGNORECASE),
)
_ENCODER = re.compile(r"^(.*[_-])?vae_?enc.*\.axmodel$", re.IGNORECASE)
_TIME_TABLES = ("time_input_txt2img.npy", "time_input.npy")
_OTHER_TIMES = re.compile(r"^time_input_(?!img2img).*\.npy$", re.IGNORECASE)
_NAMED_SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)", re.IGNORECASE)
_OTHER_CHIP = re.compile(r"ax6[23]\d[a-z]?", re.IGNORECASE)
_ROLE_DIRECTORIES = frozenset({"unet", "text_encoder", "vae", "vae_decoder", "vae_encoder", "tokenizer"})
_USUAL_SIZE = Size(512, 512)
_SOURCE = "AXERA-TECH/lcm-lora-sdv1-5"


@dataclass(frozen=True, slots=True)
class Variant:
    """One compiled set of graphs, which draws pictures of one size.

    ``tokenizer`` is the directory with ``vocab.json`` and ``merges.txt`` (or ``tokenizer.json``).
    ``vae_encoder`` is None when it cannot start from a picture. Time inputs are only ever taken from beside
    their UNet, because they are a part of it. ``named_size`` is what the directory's name says; the graphs
    decide.
    """

    directory: Path
    text_encoder: Path
    tokenizer: Path
    unet: Path
    vae_decoder: Path
    vae_encoder: Path | None
    time_table: Path | None
    time_mlp: Path | None
    preview_matrix: Path | None
    named_size: Size | None

    @property
    def graphs(self) -> tuple[Path, ...]:
        """What goes to the card."""
        every = (self.text_encoder, self.unet, self.vae_decoder, self.vae_encoder)
        return tuple(path for path in every if path)

    @property
    def files(self) -> tuple[Path, ...]:
        beside = (self.time_table, self.time_mlp, self.preview_matrix)
        return (*self.graphs, *(path for path in beside if path))

    def sha256(self) -> str:
        """Of the UNet and what it is told about time: the model's identity. Reads all of them: keep it."""
        digest = hashlib.sha256()
        for path in (self.unet, self.time_table, self.time_mlp):
            if path:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DiffusionPackage:
    """A picture model with its sizes. ``skipped`` says of every set that cannot be used why not."""

    directory: Path
    variants: tuple[Variant, ...]
    skipped: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Of the graphs, each counted once however many sizes share it."""
        graphs = {path for variant in self.variants for path in variant.graphs}
        return sum(path.stat().st_size for path in graphs)


@dataclass(frozen=True, slots=True)
class PictureModel:
    """All that is known of one set without a card. ``preview`` is None when its latents' colours are not."""

    variant: Variant
    geometry: Geometry
    times: TimeInputs
    preview: PreviewMatrix | None


def is_diffusion(directory: Path) -> bool:
    """Whether anything in ``directory`` looks like the UNet of a picture model, compiled or not."""
    return any(
        _UNET.match(path.name) or _UNCOMPILED.match(path.name) for path in _files(directories(directory))
    )


def find_package(directory: Path) -> DiffusionPackage:
    """The roles of the files in ``directory``.

    Raises:
        PackageProblem: no set of graphs in it can be used; the reason is that of the first.
    """
    unets = [path for path in _files(directories(directory)) if _UNET.match(path.name)]
    if not unets:
        raise PackageProblem(
            "its UNet is not compiled for this card: get the model's AXERA package "
            f"(unet.axmodel and its companions, as in {_SOURCE})"
        )
    variants: list[Variant] = []
    skipped: list[str] = []
    for unet in unets:
        try:
            variants.append(_variant(directory, unet, unets))
        except PackageProblem as problem:
            skipped.append(f"{_label(directory, unet)}: {problem}")
    if not variants:
        raise PackageProblem("; ".join(skipped))
    return DiffusionPackage(directory, tuple(variants), tuple(skipped))


def read_geometry(variant: Variant) -> Geometry:
    """From the graphs' headers, for the virtual card.

    Raises:
        CompiledGraphs: they are for a real card, or damaged.
        PackageProblem: they are not of one model.
    """
    try:
        text, unet, decoder = (
            read_groups(path).groups for path in (variant.text_encoder, variant.unet, variant.vae_decoder)
        )
        encoder = read_groups(variant.vae_encoder).groups if variant.vae_encoder else None
    except GraphRejected as error:
        size = f" ({variant.named_size} pixels)" if variant.named_size else ""
        raise CompiledGraphs(
            f"its graphs{size} cannot run on the virtual card: they are compiled for a real one, or damaged. "
            f"[{error}]"
        ) from None
    return combine(
        read_text(text), read_unet(unet), read_decoder(decoder), read_encoder(encoder) if encoder else None
    )


def assemble(variant: Variant, geometry: Geometry) -> PictureModel:
    """A set of graphs with what lies beside them, once it is known what the graphs take.

    Raises:
        PackageProblem: a file beside the graphs is broken, or does not fit them.
    """
    times = read_times(variant.time_table, variant.time_mlp)
    if times.width != geometry.time_width:
        raise PackageProblem(
            f"its time inputs are {times.width} wide, but its UNet takes {geometry.time_width}: they are of "
            "another model"
        )
    channels = geometry.latent_shape[1]
    matrix = read_matrix(variant.preview_matrix) if variant.preview_matrix else SD15
    if variant.preview_matrix and matrix.channels != channels:
        raise PackageProblem(
            f"{variant.preview_matrix.name} is for latents of {matrix.channels} channels, but the model has "
            f"{channels}: it is of another model"
        )
    return PictureModel(variant, geometry, times, matrix if matrix.channels == channels else None)


def one_of_each_size(sizes: Sequence[Size]) -> None:
    """Raises PackageProblem when two sets draw the same size: a request could not tell them apart."""
    for size in sizes:
        if sizes.count(size) > 1:
            raise PackageProblem(
                f"it holds {sizes.count(size)} models for {size} pixels: give each a directory of its own"
            )


def named_size(directory: Path) -> Size | None:
    """The size that a directory's name tells, which is height × width: ``models_1024x768`` is portrait."""
    found = _NAMED_SIZE.search(directory.name)
    return Size(int(found[1]), int(found[2])) if found else None


def size_of(variant: Variant) -> Size:
    """What a set of graphs draws, as far as its files tell; a real card's graphs only do once loaded.

    A directory that names no size holds 512 × 512.
    """
    try:
        return read_geometry(variant).size
    except PackageProblem:
        return variant.named_size or _USUAL_SIZE


def _variant(package: Path, unet: Path, unets: Sequence[Path]) -> Variant:
    root = _root(unet)
    _refuse_other_chip(root.relative_to(package.parent))
    siblings = [other for other in unets if _root(other) == root]
    if len(siblings) > 1:
        names = ", ".join(path.name for path in siblings)
        raise PackageProblem(f"{len(siblings)} UNets lie side by side ({names}): give each its own directory")
    others = {_root(other) for other in unets} - {root}
    near = _files(place for place in directories(root, 1) if place not in others)
    far = _files(directories(package))
    variant = Variant(
        directory=root,
        text_encoder=_text_encoder(near, far),
        tokenizer=_tokenizer(near, far),
        unet=unet,
        vae_decoder=_decoder(near),
        vae_encoder=_first(_ENCODER, near),
        time_table=_time_table(near),
        time_mlp=_called(TIME_MLP, near),
        preview_matrix=_called(PREVIEW_MATRIX, near),
        named_size=named_size(root),
    )
    if not variant.time_table and not variant.time_mlp:
        raise _no_times(near)
    for path in variant.files:
        refuse_pointer(path)
    return variant


def _root(unet: Path) -> Path:
    """The directory of the whole set: some keep each graph in a directory named for its role."""
    return unet.parent.parent if unet.parent.name.lower() in _ROLE_DIRECTORIES else unet.parent


def _label(package: Path, unet: Path) -> str:
    return unet.relative_to(package).as_posix()


def _files(places: Iterator[Path]) -> list[Path]:
    return [path for place in places for path in sorted(place.iterdir()) if path.is_file()]


def _first(pattern: re.Pattern[str], files: Sequence[Path]) -> Path | None:
    return next((path for path in files if pattern.match(path.name)), None)


def _called(name: str, files: Sequence[Path]) -> Path | None:
    return next((path for path in files if path.name.lower() == name), None)


def _text_encoder(near: Sequence[Path], far: Sequence[Path]) -> Path:
    found = _first(_TEXT_ENCODER, near) or _first(_TEXT_ENCODER, far)
    if found:
        return found
    if any(path.parent.name == "text_encoder" and path.suffix == ".safetensors" for path in far):
        raise PackageProblem(
            "its text encoder is a PyTorch checkpoint, as in the first version of the package: put "
            f"sd15_text_encoder_sim.axmodel of {_SOURCE} into its directory text_encoder"
        )
    raise PackageProblem("the text encoder sd15_text_encoder_sim.axmodel is missing: download it again")


def _tokenizer(near: Sequence[Path], far: Sequence[Path]) -> Path:
    for files in (near, far):
        by_place: dict[Path, set[str]] = {}
        for path in files:
            by_place.setdefault(path.parent, set()).add(path.name)
        for place, names in by_place.items():
            if "tokenizer.json" in names or names >= {"vocab.json", "merges.txt"}:
                return place
    raise PackageProblem(
        "there is no tokenizer in it: put vocab.json and merges.txt of the original model into its directory "
        "'tokenizer'"
    )


def _decoder(near: Sequence[Path]) -> Path:
    for pattern in _DECODERS:
        found = _first(pattern, near)
        if found:
            return found
    raise PackageProblem("vae_decoder.axmodel is missing beside its UNet: download it again")


def _time_table(near: Sequence[Path]) -> Path | None:
    return next((path for name in _TIME_TABLES if (path := _called(name, near))), None)


def _no_times(near: Sequence[Path]) -> PackageProblem:
    other = _first(_OTHER_TIMES, near)
    if other:
        return PackageProblem(
            f"its time inputs ({other.name}) are for another sampler, and only LCM models are served: get "
            f"{_SOURCE}"
        )
    return PackageProblem(
        "time_input_txt2img.npy is missing beside its UNet: download it again; that of another model will "
        "not do"
    )


def _refuse_other_chip(path: Path) -> None:
    found = _OTHER_CHIP.search(path.as_posix())
    if found and "ax650" not in path.as_posix().lower():
        raise PackageProblem(f"it is compiled for the {found[0].upper()}, and this card is an AX650N")
