"""From a completion request to jobs: one for each prompt and choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from api.errors import Refusal
from api.openai.choices import choices
from api.openai.completion_schemas import CompletionRequest
from api.openai.faults import invalid, missing, unsupported, wrong_type
from api.openai.request import refuse_certainly_too_long
from api.openai.sampling import chosen_by
from api.openai.tiers import tier_warnings
from api.terms import Terms
from config.groups import LimitSettings
from config.settings import Settings
from tasks.board import Model
from tasks.jobs import ChatJob, RawPrompt, new_batch_id

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""
_TOKEN_IDS = 2**31
_TOKENS_AT_ONCE = 1_000_000
"""Longer than any context: beyond it a list of tokens is not even looked through."""


def completion_jobs(
    request: CompletionRequest, model: Model, terms: Terms, settings: Settings
) -> list[ChatJob]:
    """The jobs that ``request`` asks for: all choices of its first prompt, then those of the second …

    A prompt's first choice is what it would be given alone.

    Raises:
        Refusal: a field holds what cannot be honoured, or what it may not hold.
        ContextTooLong: no tokenizer could make a prompt fit.
    """
    prompts = _prompts(request, settings.limits)
    _refuse_unsupported(request, prompts)
    count = request.n or 1
    if len(prompts) * count > settings.limits.choices:
        raise Refusal(
            "invalid_value",
            f"'prompt' and 'n' ask for {len(prompts) * count} answers; "
            f"at most {settings.limits.choices} may be asked for at once",
            "n" if count > 1 else "prompt",
        )
    for prompt in prompts:
        refuse_certainly_too_long([prompt.text, prompt.suffix or ""], model, "prompt")
    sampling = chosen_by(
        request, model, settings.limits, request.max_tokens or DEFAULT_MAX_TOKENS, request.logprobs
    )
    if terms.batch is None and len(prompts) * count > 1:
        terms = replace(terms, batch=new_batch_id())
    noted = (*_warnings(request), *tier_warnings(request, terms.job_class))
    made: list[ChatJob] = []
    for prompt in prompts:
        submission = terms.submission(settings, metadata=request.metadata, warnings=noted)
        made += choices(ChatJob(submission, model.id, (), sampling, raw=prompt), count, settings.limits)
    return made


@dataclass(frozen=True, slots=True)
class Echoes:
    """What of a request its answer needs, beside the jobs: choices per prompt, and whether it is echoed."""

    per_prompt: int
    echo: bool

    @classmethod
    def of(cls, request: CompletionRequest) -> Echoes:
        return cls(request.n or 1, bool(request.echo))


def _prompts(request: CompletionRequest, limits: LimitSettings) -> list[RawPrompt]:
    """The prompts, whatever form they came in. Raises Refusal."""
    given = request.prompt
    if given is None:
        raise missing("prompt")
    if isinstance(given, str):
        return [_text(given, "prompt", request.suffix)]
    if not isinstance(given, list):
        raise wrong_type("prompt", "a string, a list of strings, or lists of token ids", given)
    if not given:
        raise invalid("prompt", "a list that is not empty")
    if _is_token(given[0]):
        return [_tokens(given, "prompt")]
    if len(given) > limits.choices:
        raise Refusal("invalid_value", f"'prompt' may hold at most {limits.choices} prompts", "prompt")
    return [_one_of(each, f"prompt[{index}]", request.suffix) for index, each in enumerate(given)]


def _one_of(given: Any, where: str, suffix: str | None) -> RawPrompt:
    if isinstance(given, str):
        return _text(given, where, suffix)
    if isinstance(given, list):
        return _tokens(given, where)
    raise wrong_type(where, "a string or a list of token ids", given)


def _text(text: str, where: str, suffix: str | None) -> RawPrompt:
    if not text and suffix is None:
        raise invalid(where, "a string that is not empty")
    return RawPrompt(text, suffix=suffix)


def _tokens(given: list[Any], where: str) -> RawPrompt:
    if not given:
        raise invalid(where, "a list that is not empty")
    if len(given) > _TOKENS_AT_ONCE:
        raise Refusal("invalid_value", f"'{where}' may hold at most {_TOKENS_AT_ONCE} tokens", where)
    for index, token in enumerate(given):
        if not _is_token(token):
            raise wrong_type(f"{where}[{index}]", "a token id, as all before it", token)
        if not 0 <= token < _TOKEN_IDS:
            raise invalid(f"{where}[{index}]", "a token id: 0 or more")
    return RawPrompt(token_ids=tuple(given))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_unsupported(request: CompletionRequest, prompts: list[RawPrompt]) -> None:
    count = request.n or 1
    if request.best_of is not None and request.best_of < count:
        raise invalid("best_of", "at least 'n'")
    if request.best_of is not None and request.best_of > count:
        raise unsupported("best_of", "answers are not ranked here; ask for all of them with 'n'")
    has_tokens = any(prompt.token_ids for prompt in prompts)
    if request.echo and has_tokens:
        raise unsupported("echo", "a prompt of token ids cannot be echoed; send it as text")
    if request.echo and request.logprobs is not None:
        raise unsupported(
            "logprobs", "the prompt's own probabilities are not known; leave out 'echo', or this"
        )
    if request.suffix is not None and has_tokens:
        raise unsupported("suffix", "a prompt of token ids has no suffix; put the tokens where they belong")


def _warnings(request: CompletionRequest) -> Iterator[str]:
    if request.stream_options is not None and not request.stream:
        yield "stream_options has no effect without stream"
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        yield "stream_options.include_obfuscation has no effect on this server"
