"""From a chat request to a ``ChatJob``: every field is honoured, refused by name, or reported."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.errors import Refusal
from api.openai.choices import choices
from api.openai.faults import json_name, unsupported
from api.openai.formats import wanted_schema
from api.openai.messages import messages
from api.openai.sampling import sampling, template_options, thinking
from api.openai.schemas import ChatRequest
from api.openai.tiers import job_class as job_class
from api.openai.tiers import tier_warnings
from api.openai.tools import tool_choice, tools, unbound
from api.terms import Terms as Terms
from config.settings import Settings
from tasks.board import Model
from tasks.errors import ContextTooLong
from tasks.jobs import ChatJob

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_type": "a string",
    "string_pattern_mismatch": "1 to 64 characters of a-z, A-Z, 0-9, _ and -",
    "string_too_short": "a string that is not empty",
    "too_short": "a list that is not empty",
}
"""Pydantic's kinds of fault in JSON's words; the others read well as they are."""
_PARAM_CHARACTERS = 200

Fields = TypeVar("Fields", bound=BaseModel)


def validated(kind: type[Fields], body: object, *, strict: bool | None = None) -> Fields:
    """``body`` as ``kind``; not ``strict`` where numbers come as text.

    Raises Refusal, naming the first field at fault.
    """
    if not isinstance(body, dict):
        raise Refusal("invalid_type", f"the body is to be a JSON object, not {json_name(body)}")
    try:
        return kind.model_validate(body, strict=strict)
    except ValidationError as error:
        raise refusal_of(error.errors(include_url=False, include_input=False)[0]) from None


def refusal_of(fault: ErrorDetails) -> Refusal:
    """What a client is told about a field that pydantic found at fault; its value is not repeated."""
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"]).lstrip(".")
    param = param[:_PARAM_CHARACTERS]
    kind = fault["type"]
    if kind == "missing":
        return Refusal("missing_required_parameter", f"'{param}' is missing", param)
    wanted = _WANTED.get(kind, fault["msg"].removeprefix("Input should ").removeprefix("be "))
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return Refusal(code, f"'{param}' should be {wanted}", param)


def chat_jobs(request: ChatRequest, model: Model, terms: Terms, settings: Settings) -> list[ChatJob]:
    """The jobs that ``request`` asks for, one for each choice. Raises as ``chat_job``."""
    one = chat_job(request.model_copy(update={"n": None}), model, terms, settings)
    return choices(one, request.n or 1, settings.limits)


def chat_job(request: ChatRequest, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """The job that ``request`` asks for where one answer is all that can be told.

    Raises:
        Refusal: a field holds what cannot be honoured, or what it may not hold.
        ContextTooLong: no tokenizer could make the prompt fit.
    """
    refuse_unsupported(request)
    turns = messages(request.messages, model, settings.limits)
    refuse_certainly_too_long([turn.content for turn in turns], model, "messages")
    offered = tools(request, model, settings.limits)
    choice = tool_choice(request, offered)
    form = wanted_schema(request, settings.limits)
    noted = (
        *warnings(request),
        *unbound(offered, choice, has_form=form is not None),
        *tier_warnings(request, terms.job_class),
    )
    submission = terms.submission(settings, metadata=request.metadata, warnings=noted)
    return ChatJob(
        submission,
        model.id,
        turns,
        sampling(request, model, settings.limits),
        template_options(request),
        tools=offered,
        tool_choice=choice,
        calls_once=request.parallel_tool_calls is False,
        thinking=thinking(request),
        json_schema=form,
    )


def refuse_certainly_too_long(texts: Sequence[str], model: Model, where: str) -> None:
    """Every token stands for at most ``longest_token_bytes``, and the answer needs room for one.

    Raises ContextTooLong, naming the field ``where``.
    """
    if model.context is None or not model.longest_token_bytes:
        return
    room = model.context * model.longest_token_bytes
    # NFC is what tokenizers normalise to, and it may shorten a text: what seems too long is looked at twice.
    if sum(len(text.encode()) for text in texts) < room:
        return
    total = sum(len(unicodedata.normalize("NFC", text).encode()) for text in texts)
    if total >= room:
        raise ContextTooLong(
            f"{where} holds {total} bytes: at least {-(-total // model.longest_token_bytes)} tokens, and "
            f"'{model.id}' has a context of {model.context} tokens for prompt and answer together",
            param=where,
        )


_NEUTRAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda value: value == 1, "only one answer can be asked for here"),
    "functions": (lambda value: not value, "is not supported; use 'tools'"),
    "function_call": (lambda value: value in ("none", "auto"), "is not supported; use 'tool_choice'"),
    "modalities": (lambda value: value in ([], ["text"]), "only text can be answered"),
    "audio": (lambda value: False, "only text can be answered"),
    "web_search_options": (lambda value: False, "this server does not search the web"),
}
"""Fields that would change the answer and cannot be honoured yet: what may stand there, else what we say."""


def refuse_unsupported(request: ChatRequest) -> None:
    """Raises Refusal for the first field that asks for something that cannot be given yet."""
    for name, (is_neutral, message) in _NEUTRAL.items():
        value = getattr(request, name)
        if value is not None and not is_neutral(value):
            raise unsupported(name, message)


_WITHOUT_EFFECT = (
    "prediction",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
)


def warnings(request: ChatRequest) -> Iterator[str]:
    """One sentence for everything that was asked for, does not change the answer, and has no effect here."""
    for name in _WITHOUT_EFFECT:
        if getattr(request, name) is not None:
            yield f"{name} has no effect on this server"
    if request.verbosity not in (None, "medium"):
        yield "verbosity has no effect on this server"
    if request.store:
        yield "store has no effect: every job is kept for a while under its id, none is kept for good"
    if request.stream_options is not None and not request.stream:
        yield "stream_options has no effect without stream"
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        yield "stream_options.include_obfuscation has no effect on this server"
    if any(turn.name for turn in request.messages):
        yield "messages[].name is not shown to the model"
