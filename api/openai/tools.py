"""The tools a request offers to the model, and which of them it is to call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from api.openai.faults import invalid, missing, unsupported, wrong_type
from api.openai.formats import checked_schema
from api.openai.schemas import ChatRequest, ToolIn
from config.groups import LimitSettings
from tasks.board import Model
from tasks.grammar import fault_of_parameters
from tasks.jobs import Tool, ToolChoice

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def tools(request: ChatRequest, model: Model, limits: LimitSettings) -> tuple[Tool, ...]:
    """Raises Refusal, naming the field at fault."""
    offered = request.tools or []
    if offered and not model.knows_tools:
        raise unsupported("tools", f"the model '{model.id}' was not made for tools: its template knows none")
    names: set[str] = set()
    told = []
    for index, tool in enumerate(offered):
        told.append(_tool(tool, f"tools[{index}]", limits))
        if tool.function.name in names:
            raise invalid(f"tools[{index}].function.name", "another than that of a tool before")
        names.add(tool.function.name)
    return tuple(told)


def tool_choice(request: ChatRequest, offered: tuple[Tool, ...]) -> ToolChoice | str:
    """Raises Refusal, naming the field at fault."""
    choice = request.tool_choice
    if choice is None or choice == "auto":
        return ToolChoice.AUTO
    if choice == "none":
        return ToolChoice.NONE
    named = choice != "required"
    if named and not isinstance(choice, dict):
        if isinstance(choice, str):
            raise invalid("tool_choice", "'auto', 'none', 'required' or an object that names a tool")
        raise wrong_type("tool_choice", "a string or an object", choice)
    name = _name(choice) if named else ""
    if not offered:
        raise invalid("tool_choice", "'auto' or 'none' where there are no tools")
    if not named:
        return ToolChoice.REQUIRED
    if name not in {tool.name for tool in offered}:
        raise invalid("tool_choice.function.name", "the name of one of the tools")
    if name in set(ToolChoice):
        raise unsupported("tool_choice.function.name", "a tool of this name cannot be asked for by name")
    return name


def _name(choice: dict[str, Any]) -> str:
    kind = choice.get("type")
    if kind is None:
        raise missing("tool_choice.type")
    if kind != "function":
        raise unsupported("tool_choice.type", "only 'function' is supported")
    function = choice.get("function")
    if function is None:
        raise missing("tool_choice.function")
    if not isinstance(function, dict):
        raise wrong_type("tool_choice.function", "an object", function)
    name = function.get("name")
    if name is None:
        raise missing("tool_choice.function.name")
    if not isinstance(name, str):
        raise wrong_type("tool_choice.function.name", "a string", name)
    return name


def unbound(offered: Sequence[Tool], choice: ToolChoice | str, *, has_form: bool) -> Iterator[str]:
    """A warning for each tool whose schema cannot be followed where calls are bound to their schemas.

    They are where a call is required, where the answer has a form, and where any tool is strict; strict ones
    that cannot be followed are refused before.
    """
    if choice == ToolChoice.NONE or (
        choice == ToolChoice.AUTO and not has_form and not any(tool.strict for tool in offered)
    ):
        return
    named = choice not in set(ToolChoice)
    for tool in offered:
        fault = None if named and tool.name != choice else fault_of_parameters(tool.parameters)
        if fault is not None:
            yield f"the arguments of '{tool.name}' are not bound to its schema: {' '.join(fault.split())}"


def _refuse_unfollowable(parameters: dict[str, Any], where: str, limits: LimitSettings) -> None:
    checked_schema(parameters, where, limits)
    fault = fault_of_parameters(json.dumps(parameters))
    if fault is not None:
        raise unsupported(where, " ".join(fault.split()))


def _tool(tool: ToolIn, where: str, limits: LimitSettings) -> Tool:
    if tool.type != "function":
        raise unsupported(f"{where}.type", "only tools of type 'function' are supported")
    function = tool.function
    parameters = _NO_PARAMETERS if function.parameters is None else function.parameters
    if function.strict:
        _refuse_unfollowable(parameters, f"{where}.function.parameters", limits)
    schema = json.dumps(parameters, ensure_ascii=False)
    return Tool(function.name, function.description or "", schema, bool(function.strict))
