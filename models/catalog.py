"""What can be served: every package in the model directories, and for the others why not. Files only."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.settings import CHECKOUT, Settings
from hardware.choose import card_ids
from hardware.errors import GraphRejected
from hardware.virtual.format import read_groups
from models.diffusion.describe import describe_pictures
from models.diffusion.package import is_diffusion
from models.embedding.describe import describe_embedding
from models.embedding.package import is_embedding
from models.llm.geometry import Geometry, combine, read_layer, read_post
from models.llm.package import (
    LlmPackage,
    chat_template,
    check_embedding,
    chip_names,
    config_number,
    directories,
    find_package,
    is_llm,
    knows_thinking,
    knows_tools,
    named_context,
)
from models.manifest import (
    MANIFEST,
    CompiledGraphs,
    Manifest,
    PackageProblem,
    read_manifest,
    suggested_sampling,
)
from models.need import NEEDS, beside_graphs, beside_unread, need
from tasks.board import Catalog, Model
from tasks.jobs import JobKind
from tasks.naming import slug

log = logging.getLogger("hearth.catalog")

DEMO_PACKAGES = CHECKOUT / "demo" / "packages"

_NFC_SHRINKS = 3
"""A composed character has at least a third of the bytes of what it was composed from. Source: Unicode FAQ,
normalization: the worst expansion of NFC text by NFD is 3 in UTF-8."""


def scan(settings: Settings) -> Catalog:
    """Look through ``settings.packages_dir`` and, if wanted, the demo packages.

    Every directory there becomes one model; one that cannot be used says so in ``problem``.
    """
    found: dict[str, Model] = {}
    for_real = not any(card.is_virtual for card in card_ids(settings))
    for directory in _candidates(settings):
        model = describe(directory, settings.data_dir, for_real=for_real)
        if model.id in found:
            model = _renamed(model, found)
        found[model.id] = model
    return Catalog(scanned_at_ms=int(time.time() * 1000), models=tuple(_unambiguous(found)))


def longest_token_bytes(tokenizer: Path) -> int | None:
    """The most bytes of text that one token of ``tokenizer.json`` can stand for; None when nobody can tell.

    A text of more bytes than this times the context is certain to be too long, whatever it says.
    """
    data = json.loads(tokenizer.read_text(encoding="utf-8"))
    model = data.get("model") or {}
    vocab = model.get("vocab")
    parts = json.dumps([data.get("pre_tokenizer"), data.get("decoder")])
    is_byte_level = '"ByteLevel"' in parts
    if not isinstance(vocab, dict) or not (is_byte_level or model.get("byte_fallback")):
        return None  # unknown text may collapse into one token, however long it is
    shrinks = _normalizer_shrinks(data.get("normalizer"))
    added = data.get("added_tokens") or []
    if shrinks is None or any(token.get("lstrip") or token.get("rstrip") for token in added):
        return None
    # Byte-level vocabularies write each byte as one character.
    sizes = (len(token) if is_byte_level else len(token.replace("▁", " ").encode()) for token in vocab)
    special = (len(token["content"].encode()) for token in added)
    return max((*sizes, *special), default=0) * shrinks or None


def _normalizer_shrinks(normalizer: dict[str, Any] | None) -> int | None:
    """By how much text can shrink before it is cut into tokens; None when that is not known."""
    if normalizer is None:
        return 1
    kind = normalizer.get("type")
    if kind == "Sequence":
        parts = [_normalizer_shrinks(each) for each in normalizer.get("normalizers", [])]
        return None if None in parts else max((each for each in parts if each), default=1)
    if kind in ("NFC", "NFD"):
        return _NFC_SHRINKS
    grows = kind == "Prepend" or (kind == "Replace" and normalizer.get("pattern") == {"String": " "})
    return 1 if grows else None


def _candidates(settings: Settings) -> Iterator[Path]:
    places = [settings.packages_dir]
    # They are made for the virtual card; a real one would refuse them, one by one, when they are wanted.
    if settings.demo_models and all(card.is_virtual for card in card_ids(settings)):
        places.append(DEMO_PACKAGES)
    for place in places:
        if place.is_dir():
            yield from sorted(
                child for child in place.iterdir() if child.is_dir() and not child.name.startswith(".")
            )


def describe(directory: Path, data_dir: Path | None = None, *, for_real: bool = False) -> Model:
    """What ``directory`` holds, with the reason in words when it cannot be used.

    ``data_dir`` is where it is remembered how much card memory packages took, and hashes of large models.
    ``for_real``: a real card will run it; what its graphs say is then known only once they are loaded.
    """
    blank = Model(
        id=slug(directory.name),
        kind=_kind(directory),
        directory=str(directory.absolute()),
        size_bytes=0,
        created_at_s=_changed_at_s(directory),
    )
    try:
        manifest = read_manifest(directory)
    except PackageProblem as problem:
        return replace(blank, problem=str(problem))
    except OSError as error:
        return replace(blank, problem=_unreadable(error))
    blank = replace(blank, **_naming(directory, manifest))
    try:
        return _complete(blank, directory, manifest, data_dir, for_real=for_real)
    except PackageProblem as problem:
        return replace(blank, problem=str(problem), size_bytes=_size_bytes(directory))
    except OSError as error:
        return replace(blank, problem=_unreadable(error))


def _kind(directory: Path) -> JobKind:
    """What jobs a package is for, by what is in it. Layers say more than a UNet's name beside them."""
    if is_diffusion(directory) and not is_llm(directory):
        return JobKind.IMAGE
    return JobKind.EMBED if is_embedding(directory) else JobKind.CHAT


def _naming(directory: Path, manifest: Manifest) -> dict[str, Any]:
    own = slug(manifest.alias) if manifest.alias else slug(directory.name)
    others = dict.fromkeys((slug(directory.name), *map(slug, manifest.aliases)))
    return {
        "id": own,
        "aliases": tuple(name for name in others if name != own),
        "is_demo": manifest.is_demo,
        "keep_resident": manifest.keep_resident,
    }


def _complete(
    blank: Model, directory: Path, manifest: Manifest, data_dir: Path | None, *, for_real: bool
) -> Model:
    if blank.kind == JobKind.IMAGE:
        return describe_pictures(blank, directory, manifest, data_dir, for_real=for_real)
    if blank.kind == JobKind.EMBED:
        return describe_embedding(blank, directory, manifest, data_dir, for_real=for_real)
    if not is_llm(directory):
        raise PackageProblem(_what_else(directory))
    package = find_package(directory)
    geometry = _geometry(package, for_real=for_real)
    beside_bytes = beside_graphs(geometry) if geometry else _beside_unread(package)
    hidden = geometry.hidden if geometry else config_number(package, "tokens_embed_size", "hidden_size")
    vocab = geometry.vocab if geometry else config_number(package, "tokens_embed_num", "vocab_size")
    if hidden:
        check_embedding(package.embedding, hidden, vocab)
    try:
        token_bytes = longest_token_bytes(package.tokenizer / "tokenizer.json")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PackageProblem(f"tokenizer.json cannot be read ({error}): download it again") from None
    sampling = suggested_sampling(directory) or suggested_sampling(package.layers[0].parent)
    template = chat_template(package.tokenizer)
    needed = need((*package.layers, package.post), beside_bytes, data_dir / NEEDS if data_dir else None)
    return replace(
        blank,
        size_bytes=package.size_bytes,
        created_at_s=_changed_at_s(package.post),
        context=geometry.context if geometry else named_context(package),
        longest_token_bytes=token_bytes,
        family=package.family,
        sampling={**sampling, **manifest.sampling},
        knows_tools=knows_tools(template),
        knows_thinking=knows_thinking(template),
        needs_bytes=needed.size_bytes,
        needs_basis=needed.basis,
    )


def _geometry(package: LlmPackage, *, for_real: bool) -> Geometry | None:
    """From the graphs' headers; None when only the real card that is to run them can read those.

    Raises:
        PackageProblem: they are not one model, or not for the virtual card.
    """
    try:
        groups = [read_groups(path).groups for path in (*package.layers, package.post)]
    except GraphRejected as error:
        if for_real:
            return None
        raise CompiledGraphs(_not_virtual(package, error)) from None
    return combine([read_layer(each) for each in groups[:-1]], read_post(groups[-1]))


def _beside_unread(package: LlmPackage) -> int:
    heads, width = (config_number(package, name) for name in ("num_key_value_heads", "head_dim"))
    kv_width = heads * width if heads and width else None
    return beside_unread(len(package.layers), named_context(package), kv_width)


def _not_virtual(package: LlmPackage, error: GraphRejected) -> str:
    """Why the virtual card cannot read the package's graphs: most often they are for a real one."""
    context = named_context(package)
    told = f" (context {context})" if context else ""
    chips = chip_names(package.layers)
    return (
        f"its graphs{told} cannot run on the virtual card: they are compiled for {chips}, or damaged. "
        f"Packages for the virtual card are made with `python -m demo.export_llm`. [{error}]"
    )


def _what_else(directory: Path) -> str:
    """What a directory without layers holds instead."""
    names = [
        path.name.lower() for place in directories(directory) for path in place.iterdir() if path.is_file()
    ]
    if not names:
        return "the directory is empty: put a model package into it, or remove it"
    if any(name.endswith(".gguf") for name in names):
        return "GGUF files do not run on this card: get the model's AXERA package (…_l0_together.axmodel)"
    if any(name.endswith((".safetensors", ".bin.index.json")) for name in names):
        return (
            "it is a Hugging Face checkpoint, not a package: get the model's AXERA package, or for the "
            "virtual card export it with `python -m demo.export_llm`"
        )
    return "no model files were found in it (…_l0_together.axmodel, …_post.axmodel and their companions)"


def _unreadable(error: OSError) -> str:
    return f"{error.filename} cannot be read ({error.strerror}): check its owner and permissions"


def _size_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for place in directories(directory) for path in place.glob("*.axmodel"))


def _changed_at_s(path: Path) -> int:
    return int(path.stat().st_mtime)


def _renamed(model: Model, found: dict[str, Model]) -> Model:
    """A second package of one id, under a free one."""
    number = next(number for number in range(2, len(found) + 3) if f"{model.id}-{number}" not in found)
    first = found[model.id].directory
    return replace(
        model,
        id=f"{model.id}-{number}",
        aliases=(),
        problem=f"{first} is called {model.id!r} too: give one of them an alias in its {MANIFEST}",
    )


def _unambiguous(found: dict[str, Model]) -> Iterator[Model]:
    """The models, each alias only where it means one of them."""
    taken = set(found)
    for model in found.values():
        free = tuple(alias for alias in model.aliases if alias not in taken)
        for lost in set(model.aliases) - set(free):
            log.warning("%s: the alias %r means another model already", model.id, lost)
        taken.update(free)
        yield replace(model, aliases=free)
