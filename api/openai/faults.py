"""How a field's fault is told, for what pydantic cannot say by itself."""

from __future__ import annotations

from api.errors import Refusal


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
