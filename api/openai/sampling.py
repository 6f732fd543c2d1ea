"""How a request, and where it is silent the package, wants tokens chosen."""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

from api.errors import Refusal
from api.openai.faults import invalid, wrong_type
from api.openai.schemas import ChatRequest, SamplingIn
from config.groups import LimitSettings
from tasks.board import Model
from tasks.jobs import Sampling, Thinking

_STOP_CHARACTERS = 256
_TOKEN_ID_DIGITS = 9
_DEFAULTS = Sampling(seed=0)
_BUDGETS = {"minimal": 64, "low": 256}
"""Tokens of thought for little effort; every other effort is as long as the model likes. A token takes this
card a tenth to a third of a second."""

Value = TypeVar("Value")


def sampling(request: ChatRequest, model: Model, limits: LimitSettings) -> Sampling:
    """Raises Refusal, naming the field at fault."""
    asked = request.max_completion_tokens or request.max_tokens
    return chosen_by(request, model, limits, asked, _logprobs(request))


def chosen_by(
    request: SamplingIn, model: Model, limits: LimitSettings, max_tokens: int | None, logprobs: int | None
) -> Sampling:
    """Raises Refusal, naming the field at fault."""
    own = model.sampling
    top_k = max(_first(request.top_k, _whole(own.get("top_k")), _DEFAULTS.top_k), 0)
    top_p = _first(request.top_p, own.get("top_p"), _DEFAULTS.top_p)
    if top_p == 0:  # the nucleus of nothing is its likeliest token: said with top_k, no sampler divides by it
        top_p, top_k = _DEFAULTS.top_p, 1
    asked_repetition = _first(request.repetition_penalty, request.repeat_penalty, None)
    return Sampling(
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        max_tokens=max_tokens or _whole(own.get("max_tokens")),
        temperature=_first(request.temperature, own.get("temperature"), _DEFAULTS.temperature),
        top_k=top_k,
        top_p=top_p,
        stop=_stop(request.stop, limits),
        min_p=_first(request.min_p, own.get("min_p"), _DEFAULTS.min_p),
        typical_p=_first(request.typical_p, own.get("typical_p"), _DEFAULTS.typical_p),
        repetition_penalty=_first(
            asked_repetition, own.get("repetition_penalty"), _DEFAULTS.repetition_penalty
        ),
        repetition_window=_whole(own.get("repetition_window")) or _DEFAULTS.repetition_window,
        frequency_penalty=_first(
            request.frequency_penalty, own.get("frequency_penalty"), _DEFAULTS.frequency_penalty
        ),
        presence_penalty=_first(
            request.presence_penalty, own.get("presence_penalty"), _DEFAULTS.presence_penalty
        ),
        logit_bias=_logit_bias(request.logit_bias or {}),
        logprobs=logprobs,
    )


def thinking(request: ChatRequest) -> Thinking:
    """Raises Refusal, naming the field at fault."""
    is_on, budget = request.enable_thinking, request.thinking_budget
    inner = (request.chat_template_kwargs or {}).get("enable_thinking")
    if inner is not None and not isinstance(inner, bool):
        raise wrong_type("chat_template_kwargs.enable_thinking", "true or false", inner)
    effort = request.reasoning_effort
    if is_on is None:
        is_on = inner
    if is_on is None and effort is not None:
        is_on = effort != "none"
    if budget is None and effort is not None:
        budget = _BUDGETS.get(effort)
    return Thinking(is_on, budget if is_on is not False else None)


def template_options(request: ChatRequest) -> dict[str, Any]:
    """What the request says to the chat template, but for thinking."""
    options = request.chat_template_kwargs or {}
    return {name: value for name, value in options.items() if name != "enable_thinking"}


def _first(asked: Value | None, own: Value | None, default: Value) -> Value:
    if asked is not None:
        return asked
    return default if own is None else own


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _logit_bias(bias: dict[str, float]) -> tuple[tuple[int, float], ...]:
    for token in bias:
        if not (token.isascii() and token.isdigit() and len(token) <= _TOKEN_ID_DIGITS):
            raise Refusal(
                "invalid_value",
                f"'logit_bias' has the key {token[:20]!a}; its keys should be token ids like \"42\"",
                "logit_bias",
            )
    return tuple((int(token), value) for token, value in bias.items())


def _logprobs(request: ChatRequest) -> int | None:
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise invalid("top_logprobs", "left out, or 'logprobs' true")
    return None


def _stop(value: Any, limits: LimitSettings) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list):
        raise wrong_type("stop", "a string or a list of strings", value)
    if len(strings) > limits.stop_strings:
        raise Refusal("invalid_value", f"'stop' may hold at most {limits.stop_strings} strings", "stop")
    for index, text in enumerate(strings):
        where = "stop" if strings is not value else f"stop[{index}]"
        if not isinstance(text, str):
            raise wrong_type(where, "a string", text)
        if not 1 <= len(text) <= _STOP_CHARACTERS:
            raise Refusal("invalid_value", f"'{where}' should have 1 to {_STOP_CHARACTERS} characters", where)
    return tuple(strings)
