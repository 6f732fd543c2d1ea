"""From Ollama's requests to a ``ChatJob``: said in the native dialect first, which checks everything once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from api.ollama.schemas import MessageIn, OllamaChat, OllamaGenerate, Options
from api.openai.faults import invalid, unsupported, wrong_type
from api.openai.formats import checked_schema
from api.openai.request import Terms, chat_job, validated
from api.openai.schemas import ChatRequest as NativeRequest
from api.openai.tools import unbound
from config.settings import Settings
from tasks.board import Model
from tasks.jobs import ChatJob, RawPrompt, Thinking

_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|-?\d+(\.\d+)?")
"""Go's durations, and plain numbers in a string. Source: Go, time.ParseDuration."""
_WARM_UP = "Hello"
"""The prompt of a job that only brings the model to the card; its one token is dropped."""
_GENERATE_WITHOUT = {
    "template": "a package has a template of its own",
    "context": "send the conversation to /api/chat instead",
    "images": "this model reads only text",
}


def wanted_chat(request: OllamaChat, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """Raises Refusal and ContextTooLong, as the native dialect does."""
    if not request.messages:
        return warm_up(request, model, terms, settings)
    turns, orphans = _messages(request.messages)
    if orphans and not model.knows_tools:
        raise unsupported(f"messages[{orphans[0]}].role", f"the model '{model.id}' was not made for tools")
    job = _job(request, {"messages": turns, "tools": request.tools or None}, model, terms, settings)
    return _with_orphans(job, orphans)


def wanted_text(request: OllamaGenerate, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """The prompt as a user's turn, or as it stands where that is asked for. Raises as ``wanted_chat``."""
    for name, why in _GENERATE_WITHOUT.items():
        if getattr(request, name):
            raise unsupported(name, why)
    if is_warm_up(request):
        return warm_up(request, model, terms, settings)
    if request.raw or request.suffix:
        return _raw(request, model, terms, settings)
    turns = [{"role": "user", "content": request.prompt}]
    if request.system:
        turns.insert(0, {"role": "system", "content": request.system})
    return _job(request, {"messages": turns}, model, terms, settings)


def _raw(request: OllamaGenerate, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """The prompt as it stands, or the gap before the suffix: no template is put around either."""
    if request.system:
        raise unsupported("system", "a raw prompt has no system turn; put it into the prompt")
    if request.think:
        raise unsupported("think", "a raw prompt is gone on with as it stands; put the marks into it")
    prompt, suffix = request.prompt or "", request.suffix or None
    turn = {"role": "user", "content": prompt + (suffix or "")}
    job = _job(request, {"messages": [turn]}, model, terms, settings)
    return replace(job, messages=(), thinking=Thinking(), raw=RawPrompt(prompt, suffix=suffix))


def warm_up(request: OllamaChat | OllamaGenerate, model: Model, terms: Terms, settings: Settings) -> ChatJob:
    """The shortest job there is: when it has ended, the model is on the card."""
    turns = [{"role": "user", "content": _WARM_UP}]
    return _job(request, {"messages": turns, "max_tokens": 1}, model, terms, settings)


def is_warm_up(request: OllamaChat | OllamaGenerate) -> bool:
    if isinstance(request, OllamaChat):
        return not request.messages
    return not (request.prompt or request.suffix)


def is_farewell(request: OllamaChat | OllamaGenerate) -> bool:
    """Whether nothing is asked but that the model leaves the card."""
    return is_warm_up(request) and _is_nothing(request.keep_alive)


def _job(
    request: OllamaChat | OllamaGenerate,
    native: dict[str, Any],
    model: Model,
    terms: Terms,
    settings: Settings,
) -> ChatJob:
    check_keep_alive(request.keep_alive)
    options = request.options or Options()
    fields = {"model": model.id, **_sampling(options), **_thinking(request.think, model), **native}
    fields = {name: value for name, value in fields.items() if value is not None}
    job = chat_job(validated(NativeRequest, fields), model, terms, settings)
    sampling = job.sampling
    if options.repeat_last_n is not None:
        sampling = _looking_back(options.repeat_last_n, job)
    form = _schema(request.format, settings)
    loose = unbound(job.tools, job.tool_choice, has_form=True) if form is not None else ()
    warnings = (*job.submission.warnings, *loose, *_warnings(options, request, model))
    return replace(
        job,
        sampling=sampling,
        submission=replace(job.submission, warnings=warnings),
        json_schema=form,
    )


def _schema(form: Any, settings: Settings) -> str | None:
    if form is None or form == "":
        return None
    if form == "json":
        schema: dict[str, Any] = {"type": "object"}
    elif isinstance(form, dict):
        schema = form
    else:
        raise invalid("format", "'json' or a JSON schema")
    return checked_schema(schema, "format", settings.limits)


def _looking_back(tokens: int, job: ChatJob) -> Any:
    """Ollama's 0 looks at nothing, its -1 at everything; here 0 is everything."""
    if tokens == 0:
        return replace(job.sampling, repetition_penalty=1.0)
    return replace(job.sampling, repetition_window=max(tokens, 0))


def _sampling(options: Options) -> dict[str, Any]:
    predict = options.num_predict
    if predict == 0:
        raise invalid("options.num_predict", "at least 1, or -1 for no limit")
    stop = options.stop
    if stop is not None and not isinstance(stop, str | list):
        raise wrong_type("options.stop", "a string or a list of strings", stop)
    return {
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "seed": options.seed,
        "max_tokens": predict if predict is not None and predict > 0 else None,
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "stop": stop or None,
    }


def _thinking(think: Any, model: Model) -> dict[str, Any]:
    if think is None:
        return {}
    if isinstance(think, bool):
        wanted: dict[str, Any] = {"enable_thinking": think}
    elif think in ("low", "medium", "high"):
        wanted = {"reasoning_effort": think}
    else:
        raise invalid("think", "true, false, 'low', 'medium' or 'high'")
    if think is False and not model.knows_thinking:
        return {}
    if not model.knows_thinking:
        raise unsupported("think", f"the model '{model.id}' does not support thinking")
    return wanted


def _warnings(options: Options, request: OllamaChat | OllamaGenerate, model: Model) -> tuple[str, ...]:
    told = []
    if options.num_ctx is not None and model.context is not None and options.num_ctx > model.context:
        told.append(f"options.num_ctx {options.num_ctx}: the model's context is {model.context} tokens")
    if request.keep_alive is not None:
        told.append("keep_alive is a wish: a model stays on the card until another one needs its room")
    return tuple(told)


def check_keep_alive(value: Any) -> None:
    """Raises Refusal for what is no duration."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return
    if not isinstance(value, str):
        raise wrong_type("keep_alive", "a number of seconds or a duration like '10m'", value)
    if not _DURATION.fullmatch(value):
        raise invalid("keep_alive", "a number of seconds or a duration like '10m'")


def _is_nothing(keep_alive: Any) -> bool:
    """Whether it asks for the model to leave at once."""
    if isinstance(keep_alive, str):
        return bool(re.fullmatch(r"0+(\.0+)?(ns|us|µs|ms|s|m|h)?", keep_alive))
    return keep_alive is not None and not isinstance(keep_alive, bool) and keep_alive == 0


def _messages(turns: list[MessageIn]) -> tuple[list[dict[str, Any]], list[int]]:
    """The turns in the native dialect, where every call has an id and every result names its call.

    Results that no turn has called have no place there. They are told as a user's, with their indices, for
    ``_with_orphans``: some clients leave out the calls (litellm 1.83), and Ollama does not mind.
    """
    waiting: list[tuple[str, str]] = []
    told, orphans = [], []
    for index, turn in enumerate(turns):
        where = f"messages[{index}]"
        if turn.images:
            raise unsupported(f"{where}.images", "this model reads only text")
        native: dict[str, Any] = {"role": turn.role, "content": turn.content or ""}
        if turn.role == "assistant":
            if turn.thinking:
                native["reasoning_content"] = turn.thinking
            calls = _calls(turn, index)
            if calls:
                native["tool_calls"] = calls
                waiting = [(call["id"], call["function"]["name"]) for call in calls]
        elif turn.role == "tool":
            call_id = _answered(turn, waiting)
            if call_id is None:
                orphans.append(index)
                native["role"] = "user"
            else:
                native["tool_call_id"] = call_id
        told.append(native)
    return told, orphans


def _with_orphans(job: ChatJob, orphans: list[int]) -> ChatJob:
    """The results without a call as what they are, and a warning for each: the model may wonder."""
    if not orphans:
        return job
    turns = [
        replace(turn, role="tool") if index in orphans else turn for index, turn in enumerate(job.messages)
    ]
    told = (f"messages[{index}] is the result of a tool that no turn has called" for index in orphans)
    submission = replace(job.submission, warnings=(*job.submission.warnings, *told))
    return replace(job, messages=tuple(turns), submission=submission)


def _calls(turn: MessageIn, index: int) -> list[dict[str, Any]]:
    """Arguments are an object here and JSON text there."""
    return [
        {
            "id": call.id or f"call_{index}_{number}",
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": json.dumps(call.function.arguments, ensure_ascii=False),
            },
        }
        for number, call in enumerate(turn.tool_calls or ())
    ]


def _answered(turn: MessageIn, waiting: list[tuple[str, str]]) -> str | None:
    """The id of the call that ``turn`` is the result of: the one it names, else the first unanswered one."""
    for place, (call_id, name) in enumerate(waiting):
        if turn.tool_call_id == call_id or (turn.tool_call_id is None and turn.tool_name in (None, "", name)):
            del waiting[place]
            return call_id
    return None
