"""An embedding package as the catalog tells of it: how long a text may be, and what its vectors are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hardware.errors import GraphRejected
from hardware.virtual.format import read_groups
from models.embedding.geometry import EncoderGeometry, read_encoder
from models.embedding.package import EmbeddingPackage, find_package
from models.manifest import CompiledGraphs, Manifest, PackageProblem, read_json
from models.need import NEEDS, need
from tasks.board import Embedding, Model


def describe_embedding(
    blank: Model, directory: Path, manifest: Manifest, data_dir: Path | None, *, for_real: bool = False
) -> Model:
    """``blank`` with what the package in ``directory`` makes.

    ``for_real``: of a graph that only a real card can read, what the files beside it tell is believed.
    Raises PackageProblem.
    """
    package = find_package(directory, manifest)
    geometry = _geometry(package, for_real=for_real)
    if "model" not in read_json(package.tokenizer / "tokenizer.json"):
        raise PackageProblem("tokenizer.json cannot be read: download it again")
    hidden = geometry.hidden if geometry else package.hidden
    _refuse_longer(package, hidden)
    needed = need((package.graph,), 0, data_dir / NEEDS if data_dir else None)
    lengths = [length for length in (geometry and geometry.context, package.most_tokens) if length]
    return replace(
        blank,
        size_bytes=package.graph.stat().st_size,
        created_at_s=int(package.graph.stat().st_mtime),
        context=min(lengths, default=None),
        family=package.family,
        embedding=Embedding(hidden, package.shorter, package.shortens, tuple(package.prompts)),
        needs_bytes=needed.size_bytes,
        needs_basis=needed.basis,
    )


def _geometry(package: EmbeddingPackage, *, for_real: bool) -> EncoderGeometry | None:
    try:
        return read_encoder(read_groups(package.graph).groups)
    except GraphRejected as error:
        if for_real:
            return None
        raise CompiledGraphs(
            f"its graph cannot run on the virtual card: it is compiled for a real one, or damaged. [{error}]"
        ) from None


def _refuse_longer(package: EmbeddingPackage, hidden: int | None) -> None:
    if hidden is not None and package.shorter and max(package.shorter) > hidden:
        raise PackageProblem(
            f"it speaks of vectors of {max(package.shorter)} dimensions, and its graph makes {hidden}: "
            "files of two models?"
        )
