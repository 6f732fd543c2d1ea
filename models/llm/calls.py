"""A model's words for a tool call, as Qwen2.5 and Qwen3 write them: JSON between two tags."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any, NoReturn

OPEN_CALL = "<tool_call>"
CLOSE_CALL = "</tool_call>"
BEGINNING_OF_CALL = f"{OPEN_CALL}\n"
"""How an answer begins that is to be a call."""

_STRING_OR_CLOSE = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|</tool_call>', re.DOTALL)


class MalformedCall(ValueError):
    """What stands between the tags is not a call of one of the tools; the message says why."""


def read_call(body: str, tools: Container[str]) -> tuple[str, str]:
    """Name and arguments (JSON text of an object) of the call that ``body`` is.

    Raises MalformedCall.
    """
    try:
        call = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise MalformedCall(f"it is not JSON ({error})") from None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise MalformedCall("it has no name")
    name = call["name"]
    if name not in tools:
        raise MalformedCall(f"there is no tool {name[:64]!r}")
    return name, json.dumps(_arguments(call.get("arguments", {})), ensure_ascii=False)


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        # Some models write the arguments as their API would have shown them: as JSON in a string.
        try:
            value = json.loads(value, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise MalformedCall("its arguments are not an object") from None
    if not isinstance(value, dict):
        raise MalformedCall("its arguments are not an object")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def end_of_call(text: str) -> int | None:
    """Where the closing tag begins; one within a string of the arguments closes nothing. None: not yet."""
    for found in _STRING_OR_CLOSE.finditer(text):
        if found[0] == CLOSE_CALL:
            return found.start()
    return None
