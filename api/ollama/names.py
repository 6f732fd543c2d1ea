"""Models by Ollama's names: ``qwen3-4b``, ``qwen3-4b:latest`` and ``qwen3:4b`` are the same."""

from __future__ import annotations

import hashlib
from typing import Any

from api.board import resolve
from api.errors import Refusal
from api.ollama.schemas import NameRequest
from tasks.board import Catalog, Model
from tasks.naming import slug

LATEST = ":latest"
KINDS = ("chat", "embed")
"""What of the catalog Ollama's clients can use; it knows no pictures."""


def tagged(model: Model) -> str:
    """What Ollama calls it: every name has a tag."""
    return model.id if ":" in model.id else model.id + LATEST


def look(catalog: Catalog, name: str) -> Model | None:
    """The model of that name, whatever it does, usable or not."""
    bare = name.removesuffix(LATEST)
    return catalog.find(bare) or catalog.find(name) or catalog.find(slug(bare))


def find(catalog: Catalog, name: str, kind: str = "chat") -> Model:
    """The model of that name, for jobs of that kind. Raises as ``api.board.resolve``."""
    found = look(catalog, name)
    return resolve(catalog, name if found is None else found.id, kind)


def find_any(catalog: Catalog, name: str) -> Model:
    """The same, for whatever it can be asked in this dialect."""
    found = look(catalog, name)
    return find(catalog, name, found.kind if found is not None and found.kind in KINDS else "chat")


def named(request: NameRequest) -> str:
    """Raises Refusal when the request names no model."""
    name = request.model or request.name
    if not name:
        raise Refusal("missing_required_parameter", "'model' is missing", "model")
    return name


def digest(model: Model) -> str:
    """Tells two packages of one name apart: hashing gigabytes to answer a list would take minutes."""
    return hashlib.sha256(f"{model.id}\n{model.size_bytes}\n{model.created_at_s}".encode()).hexdigest()


def details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "axmodel",
        "family": model.family,
        "families": [model.family] if model.family else [],
        "parameter_size": "",
        "quantization_level": "",
    }
