"""From a chat request to a ``ChatJob``: every field is honoured, refused by name, or reported."""

from __future__ import annotations

import secrets
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.errors import Refusal
from api.openai.schemas import ChatRequest, MessageIn
from config.settings import LimitSettings, Settings
from tasks.board import Model
from tasks.errors import ContextTooLong
from tasks.jobs import ChatJob, JobClass, Message, Sampling, Submission, new_job_id

_STOP_CHARACTERS = 256
_METADATA_KEY, _METADATA_VALUE = 64, 512
_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_WANTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "too_short": "a list that is not empty",
}
"""Pydantic's kinds of fault in JSON's words; the others read well as they are."""
_DEFAULTS = Sampling(seed=0)
_PARAM_CHARACTERS = 200

Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request asks of the queue, beside its work."""

    owner: str
    job_class: JobClass
    has_reader: bool = False
    deadline_s: float | None = None
    batch: str | None = None


def validated(kind: type[Fields], body: object) -> Fields:
    """``body`` as ``kind``. Raises Refusal, naming the first field at fault."""
    if not isinstance(body, dict):
        raise Refusal("invalid_type", f"the body is to be a JSON object, not {_json_name(body)}")
    try:
        return kind.model_validate(body)
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


def chat_job(request: ChatRequest, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """The job that ``request`` asks for.

    Raises:
        Refusal: a field holds what cannot be honoured, or what it may not hold.
        ContextTooLong: no tokenizer could make the prompt fit.
    """
    refuse_unsupported(request)
    messages = _messages(request.messages, settings.limits)
    _refuse_certainly_too_long(messages, model)
    now_ms = time.time_ns() // 1_000_000
    default_s = (
        settings.queue.chat_deadline_s
        if terms.job_class is JobClass.CHAT
        else settings.queue.batch_deadline_s
    )
    submission = Submission(
        id=new_job_id(),
        owner=terms.owner,
        job_class=terms.job_class,
        created_at_ms=now_ms,
        has_reader=terms.has_reader,
        deadline_at_ms=now_ms + round((terms.deadline_s or default_s) * 1000),
        batch=terms.batch,
        metadata=_metadata(request.metadata, settings.limits),
        warnings=tuple(warnings(request)),
    )
    return ChatJob(submission, model.id, messages, _sampling(request, settings.limits))


def _sampling(request: ChatRequest, limits: LimitSettings) -> Sampling:
    top_p, top_k = request.top_p, max(request.top_k or 0, 0)
    if top_p == 0:  # the nucleus of nothing is its likeliest token: said with top_k, no sampler divides by it
        top_p, top_k = None, 1
    return Sampling(
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=_DEFAULTS.temperature if request.temperature is None else request.temperature,
        top_k=top_k,
        top_p=_DEFAULTS.top_p if top_p is None else top_p,
        stop=_stop(request.stop, limits),
    )


def _stop(value: Any, limits: LimitSettings) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list):
        raise Refusal(
            "invalid_type", f"'stop' should be a string or a list of strings, not {_json_name(value)}", "stop"
        )
    if len(strings) > limits.stop_strings:
        raise Refusal("invalid_value", f"'stop' may hold at most {limits.stop_strings} strings", "stop")
    for index, text in enumerate(strings):
        where = "stop" if strings is not value else f"stop[{index}]"
        if not isinstance(text, str):
            raise Refusal("invalid_type", f"'{where}' should be a string, not {_json_name(text)}", where)
        if not 1 <= len(text) <= _STOP_CHARACTERS:
            raise Refusal("invalid_value", f"'{where}' should have 1 to {_STOP_CHARACTERS} characters", where)
    return tuple(strings)


def _metadata(value: dict[str, str] | None, limits: LimitSettings) -> dict[str, str]:
    pairs = value or {}
    if len(pairs) > limits.metadata_pairs:
        raise Refusal(
            "invalid_value", f"'metadata' may hold at most {limits.metadata_pairs} pairs", "metadata"
        )
    for key, text in pairs.items():
        if len(key) > _METADATA_KEY:
            raise Refusal(
                "invalid_value", f"a key of 'metadata' exceeds {_METADATA_KEY} characters", "metadata"
            )
        if len(text) > _METADATA_VALUE:
            where = f"metadata.{key}"
            raise Refusal("invalid_value", f"'{where}' exceeds {_METADATA_VALUE} characters", where)
    return pairs


def _messages(turns: Sequence[MessageIn], limits: LimitSettings) -> tuple[Message, ...]:
    if len(turns) > limits.messages:
        raise Refusal("invalid_value", f"'messages' may hold at most {limits.messages} messages", "messages")
    return tuple(_message(turn, f"messages[{index}]") for index, turn in enumerate(turns))


def _message(turn: MessageIn, where: str) -> Message:
    if turn.role not in _ROLES:
        raise _unsupported(f"{where}.role", "the role 'function' is not supported; use 'tool'")
    for name in ("tool_calls", "function_call", "audio", "refusal"):
        if getattr(turn, name):
            raise _unsupported(f"{where}.{name}", "is not supported yet")
    return Message(_ROLES[turn.role], _text(turn.content, f"{where}.content"))


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))
    if content is None:
        raise Refusal("missing_required_parameter", f"'{where}' is missing", where)
    raise Refusal(
        "invalid_type", f"'{where}' should be a string or a list of parts, not {_json_name(content)}", where
    )


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise Refusal(
            "invalid_type", f"'{where}' should be an object with a 'type', not {_json_name(part)}", where
        )
    kind = part.get("type")
    if not isinstance(kind, str):
        raise Refusal(
            "missing_required_parameter", f"'{where}.type' is missing or not a string", f"{where}.type"
        )
    if kind != "text":
        raise _unsupported(where, f"holds a part of type {kind[:40]!a}; this model reads only 'text'")
    text = part.get("text")
    if not isinstance(text, str):
        raise Refusal(
            "invalid_type", f"'{where}.text' should be a string, not {_json_name(text)}", f"{where}.text"
        )
    return text


def _refuse_certainly_too_long(messages: Sequence[Message], model: Model) -> None:
    """Every token stands for at most ``longest_token_bytes``, and the answer needs room for one."""
    if model.context is None or not model.longest_token_bytes:
        return
    room = model.context * model.longest_token_bytes
    # NFC is what tokenizers normalise to, and it may shorten a text: what seems too long is looked at twice.
    if sum(len(message.content.encode()) for message in messages) < room:
        return
    total = sum(len(unicodedata.normalize("NFC", message.content).encode()) for message in messages)
    if total >= room:
        raise ContextTooLong(
            f"the messages hold {total} bytes: at least {-(-total // model.longest_token_bytes)} tokens, and "
            f"'{model.id}' has a context of {model.context} tokens for prompt and answer together",
            param="messages",
        )


_NEUTRAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (
        lambda value: value == 1,
        "only one answer per request is supported; send several requests instead",
    ),
    "frequency_penalty": (lambda value: value == 0, "penalties are not supported yet; leave it at 0"),
    "presence_penalty": (lambda value: value == 0, "penalties are not supported yet; leave it at 0"),
    "logit_bias": (lambda value: not any(value.values()), "is not supported yet"),
    "logprobs": (lambda value: not value, "is not supported yet"),
    "top_logprobs": (lambda value: not value, "is not supported yet"),
    "tools": (lambda value: not value, "tools are not supported yet"),
    "tool_choice": (lambda value: value in ("none", "auto"), "tools are not supported yet"),
    "functions": (lambda value: not value, "tools are not supported yet"),
    "function_call": (lambda value: value in ("none", "auto"), "tools are not supported yet"),
    "response_format": (lambda value: value.type == "text", "only the type 'text' is supported yet"),
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
            raise _unsupported(name, message)


_WITHOUT_EFFECT = (
    "prediction",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "reasoning_effort",
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
    if request.service_tier in ("scale", "priority", "fast"):
        yield f"service_tier {request.service_tier} is served as default"
    if request.stream_options is not None and not request.stream:
        yield "stream_options has no effect without stream"
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        yield "stream_options.include_obfuscation has no effect on this server"
    if any(turn.name for turn in request.messages):
        yield "messages[].name is not shown to the model"


def job_class(request: ChatRequest) -> JobClass:
    return JobClass.BATCH if request.service_tier == "flex" else JobClass.CHAT


def _unsupported(param: str, message: str) -> Refusal:
    return Refusal("unsupported_value", f"'{param}': {message}", param)


def _json_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
