"""A picture package as the catalog tells of it: what it draws, in which sizes and steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from models.diffusion import identity
from models.diffusion.geometry import Size
from models.diffusion.package import (
    DiffusionPackage,
    Variant,
    assemble,
    find_package,
    one_of_each_size,
    read_geometry,
    size_of,
)
from models.diffusion.times import read_times
from models.manifest import MANIFEST, CompiledGraphs, Manifest, PackageProblem
from models.need import NEEDS, need
from tasks.board import Model, Pictures, PictureSize

log = logging.getLogger("hearth.catalog")

FAMILY = "sd15-lcm"
_USUAL_SIZE = PictureSize(512, 512)
_USUAL_STEPS = 4
"""What a distilled model is made for; the shipped time inputs are those of 1, 2 and 4 steps."""


@dataclass(frozen=True, slots=True)
class _Set:
    """One set of graphs as far as it is known without a card."""

    variant: Variant
    size: Size
    steps: tuple[int, ...]
    from_pictures: bool


def describe_pictures(
    blank: Model, directory: Path, manifest: Manifest, data_dir: Path | None, *, for_real: bool = False
) -> Model:
    """``blank`` with what the package in ``directory`` can draw; its need is that of the first size.

    ``for_real``: graphs that only a real card can read are taken for what their directories are named for.
    Raises PackageProblem.
    """
    package = find_package(directory)
    sets = _usable(package, for_real=for_real)
    one_of_each_size([each.size for each in sets])
    pictures = _pictures(sets, manifest, data_dir)
    first = next(each for each in sets if _size(each) == pictures.sizes[0])
    needed = need(first.variant.graphs, 0, data_dir / NEEDS if data_dir else None)
    return replace(
        blank,
        size_bytes=package.size_bytes,
        created_at_s=int(package.variants[0].unet.stat().st_mtime),
        family=FAMILY,
        pictures=pictures,
        needs_bytes=needed.size_bytes,
        needs_basis=needed.basis,
    )


def _usable(package: DiffusionPackage, *, for_real: bool) -> list[_Set]:
    """Every size that can be drawn. Raises PackageProblem when none can."""
    skipped, sets = list(package.skipped), []
    for variant in package.variants:
        try:
            sets.append(_set(variant, for_real=for_real))
        except PackageProblem as problem:
            skipped.append(f"{variant.directory.relative_to(package.directory.parent)}: {problem}")
            last = problem
    if not sets:
        raise last if len(skipped) == 1 else PackageProblem("; ".join(skipped))
    for reason in skipped:
        log.warning("a size of a picture model cannot be used: %s", reason)
    return sets


def _set(variant: Variant, *, for_real: bool) -> _Set:
    try:
        model = assemble(variant, read_geometry(variant))
    except CompiledGraphs:
        if not for_real:
            raise
        times = read_times(variant.time_table, variant.time_mlp)
        return _Set(variant, size_of(variant), times.steps, variant.vae_encoder is not None)
    return _Set(variant, model.geometry.size, model.times.steps, model.geometry.encoder is not None)


def _pictures(sets: list[_Set], manifest: Manifest, data_dir: Path | None) -> Pictures:
    steps = tuple(sorted(set.intersection(*(set(each.steps) for each in sets))))
    if not steps:
        raise PackageProblem("its sizes have no number of steps in common: download it again")
    sizes = [_size(each) for each in sets]
    first = sizes.index(_default_size(sizes, manifest))
    return Pictures(
        sizes=(sizes[first], *sizes[:first], *sizes[first + 1 :]),
        steps=steps,
        default_steps=_default_steps(steps, manifest),
        from_pictures=any(each.from_pictures for each in sets),
        sha256=identity.known(sets[first].variant, data_dir),
    )


def _size(each: _Set) -> PictureSize:
    return PictureSize(each.size.width, each.size.height)


def _default_size(sizes: list[PictureSize], manifest: Manifest) -> PictureSize:
    if manifest.default_size is None:
        return _USUAL_SIZE if _USUAL_SIZE in sizes else sizes[0]
    wanted = PictureSize(*manifest.default_size)
    if wanted not in sizes:
        offered = ", ".join(map(str, sizes))
        raise PackageProblem(f"{MANIFEST}: pictures.default_size is {wanted}, and it draws {offered}")
    return wanted


def _default_steps(steps: tuple[int, ...], manifest: Manifest) -> int:
    if manifest.default_steps is None:
        return max((number for number in steps if number <= _USUAL_STEPS), default=steps[0])
    if manifest.default_steps not in steps:
        raise PackageProblem(
            f"{MANIFEST}: pictures.default_steps is {manifest.default_steps}, and its time inputs are those "
            f"of {', '.join(map(str, steps))} steps"
        )
    return manifest.default_steps
