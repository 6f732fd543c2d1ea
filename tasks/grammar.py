"""Grammars for constrained answers, of JSON schemas and of calls: for who accepts a job and who runs it.

Source: guidance-ai/llguidance, docs/json_schema.md, for what of JSON Schema is understood, and docs/syntax.md
for the grammars of calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.jobs import Tool

ANY_OBJECT = '{"type":"object"}'
"""The schema of "some JSON object"."""

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space is fixed: a model that is free to fill lines with it now and then never comes to an end."""
_MAX_SYMBOLS = 50_000
"""Of a grammar. Checking one of this size takes 50 ms of a server's core; most schemas have some hundred."""


def grammar_of(schema: str) -> str:
    """The grammar of the JSON texts that ``schema`` allows. Raises ValueError unless it is a JSON object."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)  # type: ignore[arg-type]


def limits() -> Any:
    """What a grammar may cost: ``llguidance.LLParserLimits``."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_grammar_size=_MAX_SYMBOLS)


@lru_cache(maxsize=64)
def fault_of(schema: str) -> str | None:
    """Why no answer can be bound to ``schema``, in words for its author; None when it can."""
    from llguidance import LLMatcher

    try:
        if not isinstance(json.loads(schema), dict):
            return "a schema should be an object"
        # The names of the library's classes say nothing to who wrote the schema: only its messages do.
        return LLMatcher.validate_grammar(grammar_of(schema), limits=limits()) or None
    except ValueError as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class CallMarks:
    """What stands around a call: each a text, and the one token that it is, if it is one."""

    opening: str
    closing: str
    opening_id: int | None = None
    closing_id: int | None = None


def grammar_of_calls(
    tools: Sequence[Tool], marks: CallMarks, *, has_begun: bool, once: bool, answer: str | None = None
) -> str:
    """The grammar of answers that call ``tools``, in Qwen's form, with arguments their schemas allow.

    Where the first call ``has_begun`` (its mark, and the line's end) there are only calls, ``once``: just
    that one. Where none has, there may be calls, or else what the schema ``answer`` allows; without one any
    text, with calls in between. A schema that cannot be followed binds arguments to being some object.

    Raises ValueError when an opening mark that is no token of its own would have to be told from text.
    """
    opening, closing = _mark(marks.opening, marks.opening_id), _mark(marks.closing, marks.closing_id)
    more = "" if once else " more*"
    rules = [f'call: {opening} "\\n" body', f'body: json "\\n" {closing}', 'more: "\\n" call']
    if has_begun:
        start = f"body{more}"
    elif answer is not None:
        start = f"answer | call{more}"
        rules.append(f"answer: %json {_compact(json.loads(answer))}")
    elif marks.opening_id is None:
        raise ValueError("calls cannot be told from text: their mark is no token of the model's own")
    else:
        start = "TEXT? (call TEXT?)*"
        rules.append(r"TEXT: /(.|\n)+/")
    # All in one schema, so that a token may reach from a name into what stands around it.
    rules.append(f"json: %json {_compact(_call_schema([(tool.name, _bound(tool)) for tool in tools]))}")
    return "\n".join(["%llguidance {}", f"start: {start}", *rules])


def fault_of_parameters(schema: str) -> str | None:
    """Why the arguments of a call cannot be bound to ``schema``; None when they can."""
    told = json.loads(schema)
    if told.get("type", "object") != "object":
        return "the arguments of a call are an object"
    return fault_of(json.dumps(_call_schema([("call", told)])))


def _bound(tool: Tool) -> dict[str, Any]:
    followed = tool.parameters if fault_of_parameters(tool.parameters) is None else ANY_OBJECT
    told: dict[str, Any] = json.loads(followed)
    return told


def _call_schema(calls: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The schema of one call of any of these names, each with the schema of its arguments."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": name},
                    "arguments": _moved(_of_object(schema), f"/anyOf/{index}/properties/arguments"),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for index, (name, schema) in enumerate(calls)
        ]
    }


def _of_object(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object, whatever a schema leaves open; an empty one where there are no parameters."""
    told = {"type": "object", **schema}
    if told.get("properties") == {} and "additionalProperties" not in told:
        told["additionalProperties"] = False
    return told


def _moved(schema: Any, place: str) -> Any:
    """``schema`` with its references to itself as they are where it stands at ``place`` of another."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: f"#{place}{value[1:]}"
        if name == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for name, value in schema.items()
    }


def _mark(text: str, token: int | None) -> str:
    return json.dumps(text) if token is None else f"<[{token}]>"


def _compact(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _COMPACT}, ensure_ascii=False)
