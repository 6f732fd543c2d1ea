"""OpenAI's shapes of ``/v1/completions``: a text that is gone on with, without a chat template."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from api.openai.schemas import SamplingIn, StreamOptions, UsageOut
from api.openai.tiers import Tier, TierGiven

_TEXT = {"type": "string"}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
Prompts = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "items": _TEXT, "minItems": 1},
                _TOKENS,
                {"type": "array", "items": _TOKENS, "minItems": 1},
            ],
            "title": "A text, its tokens, or a list of either",
        }
    ),
]


class CompletionRequest(SamplingIn):
    """A text to go on with. What Hearth does not know is ignored; what it knows but cannot honour is refused,
    or reported in `x-hearth-warnings`."""

    model: Annotated[str, Field(min_length=1, description="Id or alias of a model of `GET /v1/models`.")]
    prompt: Annotated[Prompts, Field(description="As it stands: no chat template is put around it.")]
    suffix: Annotated[
        str | None,
        Field(description="What stands behind the gap; for models that were made to fill one."),
    ] = None
    max_tokens: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="At most so many tokens are made; default 16.")
    ] = None
    n: Annotated[int | None, Field(ge=1, le=128, description="So many choices for each prompt.")] = None
    best_of: Annotated[
        int | None, Field(ge=1, le=128, description="Only what `n` is: none are made to be thrown away.")
    ] = None
    echo: Annotated[bool | None, Field(description="Tell the prompt before what follows it.")] = None
    logprobs: Annotated[
        int | None,
        Field(ge=0, le=20, description="Tell how probable each token was, with so many alternatives."),
    ] = None
    stream: Annotated[bool | None, Field(description="Send the text as server-sent events.")] = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    service_tier: Annotated[Tier | None, Field(description="As of a chat. Not OpenAI's.")] = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Kept with the job, as of a chat. Not OpenAI's.")
    ] = None


class CompletionLogprobs(BaseModel):
    """Of each token its text, where that begins in the choice's, and how probable it was."""

    tokens: Annotated[
        list[str], Field(description="A token that is part of a character stands as `bytes:\\\\xe2`.")
    ]
    token_logprobs: list[float]
    top_logprobs: Annotated[
        list[dict[str, float]], Field(description="The likeliest tokens, and the one that was chosen.")
    ]
    text_offset: Annotated[list[int], Field(description="Characters before it in the choice's `text`.")]


class CompletionChoice(BaseModel):
    text: str
    index: Annotated[int, Field(description="Choices of the first prompt come first.")]
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The answer to a request that did not ask for a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: Annotated[int, Field(description="Seconds since the epoch.")]
    model: str
    system_fingerprint: Annotated[
        str, Field(description="Ends in `-virtual` when no real card made the answer.")
    ]
    service_tier: TierGiven
    choices: list[CompletionChoice]
    usage: UsageOut
