"""From a request for a response to a ``ChatJob``: said in chat's words, which checks everything once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from api.context import Context
from api.openai.faults import invalid, missing, unsupported, wrong_type
from api.openai.request import chat_job, job_class, validated
from api.openai.responses import kept
from api.openai.responses.names import FIXED, told_as
from api.openai.responses.schemas import FormatIn, ResponsesRequest, ToolIn
from api.openai.responses.turns import Turns
from api.openai.schemas import ChatRequest
from api.terms import Terms
from config.settings import Settings
from tasks.board import Model
from tasks.jobs import AsResponse, ChatJob, JobClass, JobId

_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (
    _LOGPROBS,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_AS_IN_CHAT = (
    "chat_template_kwargs",
    "enable_thinking",
    "frequency_penalty",
    "logit_bias",
    "metadata",
    "min_p",
    "moderation",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "repeat_penalty",
    "repetition_penalty",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "thinking_budget",
    "top_k",
    "top_p",
    "typical_p",
    "user",
)
"""Fields that mean the same in a chat."""
_NOT_HERE = {
    "conversation": "conversations are not kept here: use 'previous_response_id', or send them as 'input'",
    "prompt": "there are no prompt templates here: send 'instructions' and 'input'",
    "context_management": "nothing is left out of a conversation here: send less of it",
}
_SAID = ("prompt_cache_key", "safety_identifier", "user")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that was read. ``chat``: the same in chat's words, its fields called as ``names`` has it."""

    fields: ResponsesRequest
    chat: ChatRequest
    names: dict[str, str]
    before: int
    previous: JobId | None
    warnings: tuple[str, ...]

    def job_class(self, *, may_go_ahead: bool) -> JobClass:
        return job_class(self.chat, may_go_ahead=may_go_ahead)

    def job(self, model: Model, terms: Terms, settings: Settings) -> ChatJob:
        """Raises Refusal and ContextTooLong, as ``chat_job`` does."""
        with told_as(self.names):
            job = chat_job(self.chat, model, terms, settings)
        response = AsResponse(
            is_stored=self.fields.store is not False,
            is_background=self.fields.background is True,
            previous=self.previous,
            has_instructions=bool(self.fields.instructions),
            before=self.before,
            said=_said(self.fields),
        )
        told = tuple(_renamed_warning(each) for each in job.submission.warnings)
        submission = replace(job.submission, warnings=(*told, *self.warnings))
        return replace(job, submission=submission, response=response)


async def wanted(value: object, shared: Context, owner: str) -> Wanted:
    """What a body asks for, with the conversation that it goes on from. Raises Refusal."""
    fields = validated(ResponsesRequest, value)
    body: dict[str, Any] = value if isinstance(value, dict) else {}
    _refuse_unsupported(fields)
    previous, turns = None, Turns()
    if fields.instructions:
        turns.instruct(fields.instructions)
    if fields.previous_response_id is not None:
        previous, messages = await kept.conversation(shared, owner, fields.previous_response_id)
        turns.recall(messages, "previous_response_id")
    before = len(turns.all)
    await _take(fields.input, turns, shared, owner, is_enough=previous is not None)
    names = {**FIXED, **turns.names}
    chat = {name: body[name] for name in _AS_IN_CHAT if name in body}
    chat |= {"model": fields.model, "messages": turns.all, **_answer_form(fields), **_tools(fields, names)}
    chat = {name: value for name, value in chat.items() if value is not None}
    with told_as(names):
        spoken = validated(ChatRequest, chat)
    return Wanted(fields, spoken, names, before, previous, (*turns.warnings, *_warnings(fields)))


async def _take(given: Any, turns: Turns, shared: Context, owner: str, *, is_enough: bool) -> None:
    if isinstance(given, str):
        turns.hear(given)
    elif isinstance(given, list) and (given or is_enough):
        for index, item in enumerate(await kept.resolved(shared, owner, given)):
            turns.add(item, f"input[{index}]")
    elif given is None or given == []:
        if not is_enough:
            raise missing("input")
    else:
        raise wrong_type("input", "a string or a list of items", given)


def _refuse_unsupported(fields: ResponsesRequest) -> None:
    for name, why in _NOT_HERE.items():
        if getattr(fields, name) not in (None, "", [], {}):
            raise unsupported(name, why)
    if fields.background and fields.store is False:
        raise invalid("store", "true, or left out, where 'background' is true: it is asked for by its id")
    for index, name in enumerate(fields.include or ()):
        if name not in _INCLUDABLE:
            raise invalid(f"include[{index}]", f"one of {', '.join(_INCLUDABLE)}")


def _answer_form(fields: ResponsesRequest) -> dict[str, Any]:
    """Length, form and thoughts of the answer, in chat's words."""
    text, thoughts = fields.text, fields.reasoning
    with_scores = _LOGPROBS in (fields.include or ())
    return {
        "max_completion_tokens": fields.max_output_tokens,
        "logprobs": True if with_scores else None,
        "top_logprobs": fields.top_logprobs if with_scores else None,
        "response_format": None if text is None or text.format is None else _format(text.format),
        "verbosity": None if text is None else text.verbosity,
        "reasoning_effort": None if thoughts is None else thoughts.effort,
    }


def _format(form: FormatIn) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    if form.name is None:
        raise missing("text.format.name")
    if form.json_schema is None:
        raise missing("text.format.schema")
    named = {"name": form.name, "description": form.description, "strict": form.strict}
    return {"type": form.type, "json_schema": {**named, "schema": form.json_schema}}


def _tools(fields: ResponsesRequest, names: dict[str, str]) -> dict[str, Any]:
    """The tools that may be called, and the choice between them. ``names`` learns where each stands."""
    offered = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(fields.tools or ())]
    choice, allowed = fields.tool_choice, None
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            allowed, choice = _allowed(choice, offered), choice.get("mode", "auto")
        elif "name" in choice:
            choice = {"type": choice.get("type", "function"), "function": {"name": choice["name"]}}
    left: list[dict[str, Any]] = []
    for index, tool in enumerate(offered):
        if allowed is None or tool["function"]["name"] in allowed:
            at = f"tools[{len(left)}]"
            names[at] = names[f"{at}.function"] = f"tools[{index}]"
            left.append(tool)
    return {"tools": left or None, "tool_choice": choice}


def _tool(tool: ToolIn, where: str) -> dict[str, Any]:
    if tool.type != "function":
        raise unsupported(
            f"{where}.type",
            f"a tool of type {tool.type[:40]!a} is not run by this server: offer a 'function' of your own",
        )
    if tool.name is None:
        raise missing(f"{where}.name")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {**function, "strict": tool.strict}}


def _allowed(choice: dict[str, Any], offered: list[dict[str, Any]]) -> set[str]:
    """The names that 'allowed_tools' leaves. Raises Refusal."""
    tools, mode = choice.get("tools"), choice.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise invalid("tool_choice.mode", "'auto' or 'required'")
    if not isinstance(tools, list) or not tools:
        raise invalid("tool_choice.tools", "a list of tools that is not empty")
    known = {tool["function"]["name"] for tool in offered}
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or name not in known:
            raise invalid(f"tool_choice.tools[{index}].name", "the name of one of the tools")
    return {tool["name"] for tool in tools}


def _said(fields: ResponsesRequest) -> dict[str, Any]:
    """What the answer repeats of the request, but for what the job itself knows."""
    told: dict[str, Any] = {name: getattr(fields, name) for name in _SAID}
    told |= {"max_output_tokens": fields.max_output_tokens, "max_tool_calls": fields.max_tool_calls}
    told["truncation"] = fields.truncation or "disabled"
    told["tools"] = [_told_tool(tool) for tool in fields.tools or ()]
    told["tool_choice"] = "auto" if fields.tool_choice is None else fields.tool_choice
    thoughts = fields.reasoning
    summary = None if thoughts is None else thoughts.summary or thoughts.generate_summary
    told["reasoning"] = {"effort": None if thoughts is None else thoughts.effort, "summary": summary}
    text = fields.text
    form = {"type": "text"} if text is None or text.format is None else _told_format(text.format)
    told["text"] = {"format": form} if text is None else {"format": form, "verbosity": text.verbosity}
    # No field without a value: what reads it has the same default.
    return {name: value for name, value in told.items() if value is not None}


def _told_tool(tool: ToolIn) -> dict[str, Any]:
    return {**tool.model_dump(), "strict": tool.strict is True, "parameters": tool.parameters or {}}


def _told_format(form: FormatIn) -> dict[str, Any]:
    return form.model_dump(by_alias=True, exclude_none=True)


def _warnings(fields: ResponsesRequest) -> Iterator[str]:
    for name in fields.include or ():
        if name != _LOGPROBS:
            yield f"include {name} has no effect on this server"
    if fields.top_logprobs and _LOGPROBS not in (fields.include or ()):
        yield f"top_logprobs has no effect without include {_LOGPROBS}"
    if fields.truncation == "auto":
        yield "truncation auto has no effect: a conversation that does not fit is refused"
    if fields.max_tool_calls is not None:
        yield "max_tool_calls has no effect: it counts calls of hosted tools"
    if fields.reasoning is not None and (fields.reasoning.summary or fields.reasoning.generate_summary):
        yield "reasoning.summary: the thoughts are told whole, nothing sums them up"


def _renamed_warning(text: str) -> str:
    name, space, rest = text.partition(" ")
    return FIXED.get(name, name.replace("tools[].function", "tools[]")) + space + rest
