"""What form an answer is to have: text, some JSON object, or what a JSON schema allows."""

from __future__ import annotations

import json
from typing import Any

from api.errors import Refusal
from api.openai.faults import invalid, missing, unsupported
from api.openai.schemas import ChatRequest
from config.groups import LimitSettings
from tasks.grammar import ANY_OBJECT, fault_of

_FIELD = "response_format"


def wanted_schema(request: ChatRequest, limits: LimitSettings) -> str | None:
    """The JSON text of the schema that the answer is bound to, if it is. Raises Refusal."""
    form = request.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.type != "json_schema":
        raise invalid(f"{_FIELD}.type", "'text', 'json_object' or 'json_schema'")
    if form.json_schema is None:
        raise missing(f"{_FIELD}.json_schema")
    schema = form.json_schema.json_schema
    return ANY_OBJECT if schema is None else checked_schema(schema, f"{_FIELD}.json_schema.schema", limits)


def checked_schema(schema: dict[str, Any], where: str, limits: LimitSettings) -> str:
    """``schema`` as text. Raises Refusal when it is too large, or an answer cannot be bound to it."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > limits.schema_bytes:
        raise Refusal("invalid_value", f"'{where}' exceeds {limits.schema_bytes} bytes", where)
    fault = fault_of(text)
    if fault is not None:
        raise unsupported(where, " ".join(fault.split()))
    return text
