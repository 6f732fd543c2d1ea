"""A request's conversation as the words of a job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from api.errors import Refusal
from api.openai.faults import invalid, missing, unsupported, wrong_type
from api.openai.schemas import CallIn, MessageIn
from config.groups import LimitSettings
from tasks.board import Model
from tasks.jobs import Call, Message

_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def messages(turns: Sequence[MessageIn], model: Model, limits: LimitSettings) -> tuple[Message, ...]:
    """Raises Refusal, naming the field at fault."""
    if len(turns) > limits.messages:
        raise Refusal("invalid_value", f"'messages' may hold at most {limits.messages} messages", "messages")
    known: set[str] = set()
    told: list[Message] = []
    for index, turn in enumerate(turns):
        told.append(_message(turn, f"messages[{index}]", model, known))
        known.update(call.id for call in told[-1].calls)
    return tuple(told)


def _message(turn: MessageIn, where: str, model: Model, known: set[str]) -> Message:
    """``known`` are the ids of the calls before this turn."""
    if turn.role not in _ROLES:
        raise unsupported(f"{where}.role", "the role 'function' is not supported; use 'tool'")
    for name in ("function_call", "audio", "refusal"):
        if getattr(turn, name):
            raise unsupported(f"{where}.{name}", "is not supported yet")
    if turn.role == "tool":
        return _result(turn, where, model, known)
    calls = _calls(turn, where, model)
    content = "" if calls and turn.content is None else text(turn.content, f"{where}.content")
    reasoning = turn.reasoning_content if turn.role == "assistant" else None
    return Message(_ROLES[turn.role], content, calls, reasoning=reasoning)


def _result(turn: MessageIn, where: str, model: Model, known: set[str]) -> Message:
    if not model.knows_tools:
        raise unsupported(f"{where}.role", f"the model '{model.id}' was not made for tools")
    if turn.tool_call_id is None:
        raise missing(f"{where}.tool_call_id")
    if turn.tool_call_id not in known:
        raise invalid(f"{where}.tool_call_id", "the id of a call in an assistant's turn before this one")
    return Message("tool", text(turn.content, f"{where}.content"), call_id=turn.tool_call_id)


def _calls(turn: MessageIn, where: str, model: Model) -> tuple[Call, ...]:
    if not turn.tool_calls:
        return ()
    where = f"{where}.tool_calls"
    if turn.role != "assistant":
        raise invalid(where, "left out: only an assistant's turn makes calls")
    if not model.knows_tools:
        raise unsupported(where, f"the model '{model.id}' was not made for tools")
    calls = tuple(_call(call, f"{where}[{index}]") for index, call in enumerate(turn.tool_calls))
    for index, call in enumerate(calls):
        if any(call.id == other.id for other in calls[:index]):
            raise invalid(f"{where}[{index}].id", "another than that of the call before")
    return calls


def _call(call: CallIn, where: str) -> Call:
    if call.type != "function":
        raise unsupported(f"{where}.type", "only calls of type 'function' are supported")
    where = f"{where}.function.arguments"
    try:
        # Of a call without arguments some clients make an empty string.
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        raise invalid(where, "JSON") from None
    if not isinstance(arguments, dict):
        raise invalid(where, "the JSON of an object")
    return Call(call.id, call.function.name, json.dumps(arguments, ensure_ascii=False))


def text(content: Any, where: str) -> str:
    """A message's text, whatever the form it came in."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))
    if content is None:
        raise missing(where)
    raise wrong_type(where, "a string or a list of parts", content)


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise wrong_type(where, "an object with a 'type'", part)
    kind = part.get("type")
    if not isinstance(kind, str):
        raise Refusal(
            "missing_required_parameter", f"'{where}.type' is missing or not a string", f"{where}.type"
        )
    if kind != "text":
        raise unsupported(where, f"holds a part of type {kind[:40]!a}; this model reads only 'text'")
    words = part.get("text")
    if not isinstance(words, str):
        raise wrong_type(f"{where}.text", "a string", words)
    return words
