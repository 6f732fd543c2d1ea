"""A picture package as the catalog tells of it: what it draws, in which sizes and steps."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from models.diffusion import identity
from models.diffusion.package import (
    DiffusionPackage,
    PictureModel,
    assemble,
    find_package,
    one_of_each_size,
    read_geometry,
)
from models.manifest import MANIFEST, Manifest, PackageProblem
from models.need import NEEDS, need
from tasks.board import Model, Pictures, PictureSize

log = logging.getLogger("hearth.catalog")

FAMILY = "sd15-lcm"
_USUAL_SIZE = PictureSize(512, 512)
_USUAL_STEPS = 4
"""What a distilled model is made for; the shipped time inputs are those of 1, 2 and 4 steps."""


def describe_pictures(blank: Model, directory: Path, manifest: Manifest, data_dir: Path | None) -> Model:
    """``blank`` with what the package in ``directory`` can draw; its need is that of the first size.

    Raises PackageProblem.
    """
    package = find_package(directory)
    models = _usable(package)
    one_of_each_size([model.geometry for model in models])
    pictures = _pictures(models, manifest, data_dir)
    first = next(model for model in models if _size(model) == pictures.sizes[0])
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


def _usable(package: DiffusionPackage) -> list[PictureModel]:
    """Every size that can be drawn. Raises PackageProblem when none can."""
    skipped, models = list(package.skipped), []
    for variant in package.variants:
        try:
            models.append(assemble(variant, read_geometry(variant)))
        except PackageProblem as problem:
            skipped.append(f"{variant.directory.relative_to(package.directory.parent)}: {problem}")
            last = problem
    if not models:
        raise last if len(skipped) == 1 else PackageProblem("; ".join(skipped))
    for reason in skipped:
        log.warning("a size of a picture model cannot be used: %s", reason)
    return models


def _pictures(models: list[PictureModel], manifest: Manifest, data_dir: Path | None) -> Pictures:
    steps = tuple(sorted(set.intersection(*(set(model.times.steps) for model in models))))
    if not steps:
        raise PackageProblem("its sizes have no number of steps in common: download it again")
    sizes = [_size(model) for model in models]
    first = sizes.index(_default_size(sizes, manifest))
    return Pictures(
        sizes=(sizes[first], *sizes[:first], *sizes[first + 1 :]),
        steps=steps,
        default_steps=_default_steps(steps, manifest),
        from_pictures=any(model.geometry.encoder is not None for model in models),
        sha256=identity.known(models[first].variant, data_dir),
    )


def _size(model: PictureModel) -> PictureSize:
    size = model.geometry.size
    return PictureSize(size.width, size.height)


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
