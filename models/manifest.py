"""``hearth.toml``: what the owner of a package says about it, and what the package's own files suggest."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "hearth.toml"

_SAMPLING_BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.01, 1.0),
    "repetition_penalty": (0.01, 10.0),
    "repetition_window": (0, 1_000_000),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "max_tokens": (1, 1_000_000),
}
_WHOLE = frozenset({"top_k", "repetition_window", "max_tokens"})
_KEYS = ("alias", "aliases", "is_demo", "keep_resident", "sampling", "pictures", "embedding")
_POOLINGS = ("cls", "mean", "max", "last")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_GENERATION = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_POST = {
    "temperature": ("enable_temperature", "temperature"),
    "top_k": ("enable_top_k_sampling", "top_k"),
    "top_p": ("enable_top_p_sampling", "top_p"),
    "repetition_penalty": ("enable_repetition_penalty", "repetition_penalty"),
    "repetition_window": ("enable_repetition_penalty", "penalty_window"),
}
"""AXERA's ``post_config.json``: the switch of each option, and where its value stands."""


class PackageProblem(Exception):
    """A package cannot be used; the message says why, and what its owner can do about it."""


class CompiledGraphs(PackageProblem):
    """The graphs are compiled for a real card, or damaged: which of the two, only such a card can tell."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``hearth.toml`` holds. Absent keys are None or empty.

    ``alias`` becomes the model's id, ``aliases`` are further names. ``keep_resident``: once loaded, it makes
    no room for others. ``sampling`` are the values for what a request leaves open, by the names of
    ``tasks.jobs.Sampling``; ``default_size`` (width, height) and ``default_steps`` are the same for a
    picture model. ``pooling`` is how an embedding model's rows become one vector, ``shorter`` the numbers of
    dimensions that vector may be cut to.
    """

    alias: str | None = None
    aliases: tuple[str, ...] = ()
    is_demo: bool = False
    keep_resident: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    default_size: tuple[int, int] | None = None
    default_steps: int | None = None
    pooling: str | None = None
    shorter: tuple[int, ...] = ()


def read_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``, or an empty one. Raises PackageProblem when it is there and wrong."""
    path = directory / MANIFEST
    if not path.is_file():
        return Manifest()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackageProblem(f"{MANIFEST} is not valid TOML: {error}") from None
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise PackageProblem(f"{MANIFEST} has the unknown key {unknown[0]!r}: known are {', '.join(_KEYS)}")
    pictures = _table(data, "pictures", ("default_size", "default_steps"))
    embedding = _table(data, "embedding", ("pooling", "dimensions"))
    return Manifest(
        alias=_typed(data, "alias", str, None),
        aliases=tuple(_names(data.get("aliases", []))),
        is_demo=_typed(data, "is_demo", bool, False),
        keep_resident=_typed(data, "keep_resident", bool, False),
        sampling=_checked_sampling(data.get("sampling", {})),
        default_size=_size(pictures.get("default_size")),
        default_steps=_steps(pictures.get("default_steps")),
        pooling=_pooling(embedding.get("pooling")),
        shorter=_dimensions(embedding.get("dimensions")),
    )


def _typed(data: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = data.get(key, default)
    if value is not default and not isinstance(value, kind):
        raise PackageProblem(f"{MANIFEST}: {key} must be a {'string' if kind is str else 'boolean'}")
    return value


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PackageProblem(f"{MANIFEST}: aliases must be a list of strings")
    return value


def _table(data: Mapping[str, Any], name: str, known: tuple[str, ...]) -> dict[str, Any]:
    value = data.get(name, {})
    if not isinstance(value, dict):
        raise PackageProblem(f"{MANIFEST}: {name} must be a table")
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise PackageProblem(f"{MANIFEST}: {name}.{unknown[0]} is unknown: known are {', '.join(known)}")
    return value


def _pooling(value: Any) -> str | None:
    if value is not None and value not in _POOLINGS:
        raise PackageProblem(f"{MANIFEST}: embedding.pooling must be one of {', '.join(_POOLINGS)}")
    return str(value) if value is not None else None


def _dimensions(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(type(each) is int and each >= 1 for each in value):
        raise PackageProblem(f"{MANIFEST}: embedding.dimensions must be a list of numbers from 1")
    return tuple(sorted(value))


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise PackageProblem(f'{MANIFEST}: pictures.default_size must be WIDTHxHEIGHT, like "512x512"')
    return int(found[1]), int(found[2])


def _steps(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise PackageProblem(f"{MANIFEST}: pictures.default_steps must be a number from 1")
    return value


def _checked_sampling(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise PackageProblem(f"{MANIFEST}: sampling must be a table")
    for name, number in value.items():
        if name not in _SAMPLING_BOUNDS:
            raise PackageProblem(
                f"{MANIFEST}: sampling.{name} is unknown: known are {', '.join(_SAMPLING_BOUNDS)}"
            )
        if not _fits(name, number):
            low, high = _SAMPLING_BOUNDS[name]
            raise PackageProblem(f"{MANIFEST}: sampling.{name} must be a number from {low:g} to {high:g}")
    return value


def _fits(name: str, number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int if name in _WHOLE else int | float):
        return False
    low, high = _SAMPLING_BOUNDS[name]
    return bool(low <= number <= high)


def suggested_sampling(directory: Path) -> dict[str, float]:
    """What the package's maker suggests: in ``generation_config.json``, else in ``post_config.json``."""
    generation = read_json(directory / "generation_config.json")
    if generation:
        if generation.get("do_sample") is False:
            return {"temperature": 0.0}
        return {name: generation[name] for name in _GENERATION if _fits(name, generation.get(name))}
    post = read_json(directory / "post_config.json")
    return {
        name: post[key]
        for name, (switch, key) in _POST.items()
        if post.get(switch) and _fits(name, post.get(key))
    }


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``; empty when there is no such file, no text in it or no object.

    Vendors ship some of these files empty, so a broken one means no more than a missing one.
    """
    data = _json(path)
    return data if isinstance(data, dict) else {}


def read_json_list(path: Path) -> list[Any]:
    """The same for a list."""
    data = _json(path)
    return data if isinstance(data, list) else []


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
