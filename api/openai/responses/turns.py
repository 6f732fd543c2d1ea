"""A response's items as the messages of a chat.

Of one turn of the assistant Responses make several items: thoughts, words, calls. They are put together
again, in that order: whatever comes out of it begins another turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from api.errors import Refusal
from api.openai.faults import missing, unsupported, wrong_type
from api.openai.request import validated
from api.openai.responses.schemas import (
    CallItem,
    CallOutputItem,
    MessageItem,
    ReasoningItem,
)
from tasks.jobs import Message

_KINDS: dict[str, type[BaseModel]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
}
_TEXT_PARTS = ("input_text", "output_text")


@dataclass(slots=True)
class Turns:
    """``all``: messages in chat's form. ``names``: which field of the request each part of them came from."""

    all: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _told: tuple[str, ...] = ()
    """What the assistant's turn that is still open holds already."""

    def instruct(self, text: str) -> None:
        self._say("system", text, "instructions", "instructions")

    def recall(self, messages: Sequence[Message], where: str) -> None:
        """Messages of an earlier job, as they were."""
        for message in messages:
            told: dict[str, Any] = {"role": message.role, "content": message.content}
            if message.calls:
                told["tool_calls"] = [
                    {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                    for call in message.calls
                ]
            if message.call_id is not None:
                told["tool_call_id"] = message.call_id
            if message.reasoning is not None:
                told["reasoning_content"] = message.reasoning
            self._begin(told, where)

    def hear(self, text: str) -> None:
        """An input that is nothing but a user's words."""
        self._say("user", text, "input", "input")

    def add(self, item: Any, where: str) -> None:
        """One item of the input. Raises Refusal."""
        kind = _kind(item, where)
        try:
            fields = validated(_KINDS[kind], item)
        except Refusal as refusal:
            raise refusal.within(where) from None
        if isinstance(fields, MessageItem):
            self._message(fields, where)
        elif isinstance(fields, CallItem):
            self._call(fields, where)
        elif isinstance(fields, CallOutputItem):
            content = _content(fields.output)
            self._begin({"role": "tool", "tool_call_id": fields.call_id, "content": content}, where)
            self._name(role=where, content=f"{where}.output", tool_call_id=f"{where}.call_id")
        elif isinstance(fields, ReasoningItem):
            self._think(fields, where)

    def _message(self, item: MessageItem, where: str) -> None:
        if item.role != "assistant":
            self._say(item.role, _content(item.content), where, f"{where}.content")
            return
        self._assistant("words", where)
        self.all[-1]["content"] = _content(item.content)
        self._name(content=f"{where}.content")

    def _call(self, item: CallItem, where: str) -> None:
        self._assistant("calls", where)
        calls = self.all[-1].setdefault("tool_calls", [])
        at = f"tool_calls[{len(calls)}]"
        if not calls:
            self._name(tool_calls=where)
        calls.append({"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}})
        self._name(**{at: where, f"{at}.id": f"{where}.call_id", f"{at}.function": where})

    def _think(self, item: ReasoningItem, where: str) -> None:
        thoughts = "\n".join(part.text for part in item.content or item.summary or ())
        if not thoughts:
            if item.encrypted_content:
                self.warnings.append(f"{where}.encrypted_content cannot be read here and has no effect")
            return
        self._assistant("thoughts", where)
        self.all[-1]["reasoning_content"] = thoughts

    def _assistant(self, part: str, where: str) -> None:
        """Go on with the assistant's turn, or begin one where ``part`` cannot follow what it holds."""
        order = ("thoughts", "words", "calls")
        fits = self._told and (
            order.index(self._told[-1]) < order.index(part) or self._told[-1] == part == "calls"
        )
        told = (*self._told, part) if fits else (part,)
        if not fits:
            # The words of a turn that only thinks are none; chat wants that said.
            self._begin({"role": "assistant", "content": ""}, where)
        self._told = told

    def _say(self, role: str, content: Any, where: str, where_content: str) -> None:
        self._begin({"role": role, "content": content}, where)
        self._name(content=where_content)

    def _begin(self, turn: dict[str, Any], where: str) -> None:
        self.all.append(turn)
        self._told = ()
        self.names[f"messages[{len(self.all) - 1}]"] = where

    def _name(self, **names: str) -> None:
        at = f"messages[{len(self.all) - 1}]"
        self.names.update({f"{at}.{name}": where for name, where in names.items()})


def _kind(item: Any, where: str) -> str:
    if not isinstance(item, dict):
        raise wrong_type(where, "an object with a 'type'", item)
    kind = item.get("type", "message" if "role" in item else None)
    if kind is None:
        raise missing(f"{where}.type")
    if not isinstance(kind, str):
        raise wrong_type(f"{where}.type", "a string", kind)
    if kind not in _KINDS:
        known = ", ".join(f"'{name}'" for name in (*_KINDS, "item_reference"))
        raise unsupported(f"{where}.type", f"{kind[:40]!a} is not known here; an item is one of {known}")
    return kind


def _content(content: Any) -> Any:
    """Parts of text under chat's name; the others stay what they are, and chat refuses them."""
    if not isinstance(content, list):
        return content
    return [
        {**part, "type": "text"} if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else part
        for part in content
    ]
