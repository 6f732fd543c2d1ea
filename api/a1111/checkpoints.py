"""The catalog's picture models as the web UI's checkpoints."""

from __future__ import annotations

import re

from api.board import default_model, resolve
from tasks.board import Catalog, Model
from tasks.errors import UnknownModel
from tasks.jobs import JobKind

_HASH_BEHIND = re.compile(r"(.+?)(?:\.safetensors|\.ckpt)?\s*\[([0-9a-f]{8,64})\]")
_SHORT = 10


def usable(catalog: Catalog) -> list[Model]:
    return [model for model in catalog.models if model.kind == JobKind.IMAGE and not model.problem]


def checkpoint(catalog: Catalog, name: str | None) -> Model:
    """The model that a client's ``sd_model_checkpoint`` means; the default one when it names none.

    A name is an id, an alias, a hash, or an id with a hash behind it, as in ``sd15-lcm [0123456789]``.

    Raises:
        UnknownModel: there is none of that name, or none with that hash, or no picture model at all.
        ModelUnusable: its package cannot be run.
    """
    if not name:
        return default_model(catalog, JobKind.IMAGE)
    by_hash = [model for model in usable(catalog) if _is_hash_of(name, model)]
    if by_hash:
        return by_hash[0]
    named = _HASH_BEHIND.fullmatch(name)
    drawing = tuple(model for model in catalog.models if model.kind == JobKind.IMAGE)
    model = resolve(Catalog(catalog.scanned_at_ms, drawing), named[1] if named else name, JobKind.IMAGE)
    if named and not _is_hash_of(named[2], model):
        raise UnknownModel(
            f"'{model.id}' has the hash {short_hash(model) or '(not yet known)'}, not {named[2]}",
            param="sd_model_checkpoint",
        )
    return model


def title(model: Model) -> str:
    """What clients list and send back. Without the hash: it must not change while the weights are read."""
    return model.id


def told(model: Model) -> dict[str, str | None]:
    """One entry of ``sd-models``."""
    return {
        "title": title(model),
        "model_name": model.id,
        "hash": short_hash(model),
        "sha256": sha256(model),
        "filename": model.id,
        "config": None,
    }


def sha256(model: Model) -> str | None:
    return None if model.pictures is None else model.pictures.sha256


def short_hash(model: Model) -> str | None:
    whole = sha256(model)
    return None if whole is None else whole[:_SHORT]


def _is_hash_of(text: str, model: Model) -> bool:
    whole = sha256(model)
    return whole is not None and len(text) >= 8 and whole.startswith(text.lower())
