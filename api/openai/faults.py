"""How a field's fault is told, for what pydantic cannot say by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from api.errors import Refusal

_NAMES_TOLD, _NAME_CHARACTERS = 8, 40


def unsupported(param: str, message: str) -> Refusal:
    return Refusal("unsupported_value", f"'{param}': {message}", param)


def missing(param: str) -> Refusal:
    return Refusal("missing_required_parameter", f"'{param}' is missing", param)


def invalid(param: str, wanted: str) -> Refusal:
    return Refusal("invalid_value", f"'{param}' should be {wanted}", param)


def wrong_type(param: str, wanted: str, value: object) -> Refusal:
    return Refusal("invalid_type", f"'{param}' should be {wanted}, not {json_name(value)}", param)


def json_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def unknown_names(body: Mapping[str, Any], kind: type[BaseModel]) -> Iterator[str]:
    """A warning for each name in ``body`` that ``kind`` does not know; of a great many the first ones."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    strange = [name for name in body if name not in known]
    for name in strange[:_NAMES_TOLD]:
        yield f"{name[:_NAME_CHARACTERS]!a} is not known here and has no effect"
    if len(strange) > _NAMES_TOLD:
        yield f"{len(strange) - _NAMES_TOLD} more names are not known here"
