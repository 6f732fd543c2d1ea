"""What a journal is made of: a job's events as they happened, with one terminal event at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tasks.jobs import FinishReason

HoldReason = Literal["thermal", "telemetry", "loading", "operator", "card_lost", "starting"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted; ``cached_tokens`` of the prompt were already in the card's cache.

    ``reasoning_tokens`` are those of the ``completion_tokens`` that were thoughts.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of one attempt. ``first_token_card_ms`` is the card's own share of ``first_token_ms``.

    A picture's time goes into its text, its source picture, the steps, the decoding into pixels and the file.
    """

    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    first_token_ms: float = 0.0
    first_token_card_ms: float = 0.0
    text_ms: float = 0.0
    source_ms: float = 0.0
    steps_ms: float = 0.0
    pixels_ms: float = 0.0
    file_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file a job made, below the data directory; ``sha256`` is of its bytes."""

    path: str
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted (attempt 0), or given back to the queue after ``reason``."""

    attempt: int
    reason: str | None = None
    type: Literal["queued"] = "queued"


@dataclass(frozen=True, slots=True)
class Started:
    attempt: int
    card: str
    type: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is on its way to the card: ``done`` of ``total`` files."""

    model: str
    done: int
    total: int
    type: Literal["loading"] = "loading"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token and the logarithm of its probability.

    ``token_bytes`` are its own bytes, which may be part of a character; ``token`` shows those as U+FFFD.
    """

    token: str
    token_bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What was chosen and what else might have been, most probable first."""

    chosen: Alternative
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Whole UTF-8 text, and exactly the token ids it was made of: an attempt after a crash goes on from them.

    ``text`` may be empty: ids whose characters are not complete, or could begin a stop string, come with
    the delta that completes them. ``logprobs`` has one entry for each token the text was made of, when the
    job asked for them. A delta without ids is the first half of one that follows: both are stored together.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    type: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Like ``TextDelta``, for what the model thinks before it answers."""

    text: str
    token_ids: tuple[int, ...]
    type: Literal["reasoning_delta"] = "reasoning_delta"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call of a tool, and the token ids it was made of. ``arguments`` is JSON text of an object."""

    index: int
    id: str
    name: str
    arguments: str
    token_ids: tuple[int, ...]
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class StepDone:
    """A picture has come ``done`` of ``total`` steps along."""

    done: int
    total: int
    type: Literal["step_done"] = "step_done"


@dataclass(frozen=True, slots=True)
class Preview:
    """What the picture looks like after ``step`` steps: a small file, gone with the job's files."""

    step: int
    picture: ArtifactRef
    type: Literal["preview"] = "preview"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of the job's input ``index``: ``vector`` is base64 of its float32, little-endian.

    An attempt after a crash goes on with the first input that has none.
    """

    index: int
    vector: str
    prompt_tokens: int
    type: Literal["embedded"] = "embedded"


@dataclass(frozen=True, slots=True)
class Held:
    reason: HoldReason
    message: str
    type: Literal["held"] = "held"


@dataclass(frozen=True, slots=True)
class Resumed:
    reason: HoldReason
    held_ms: int
    type: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    usage: Usage
    timings: Timings
    output: tuple[ArtifactRef, ...] = ()
    warnings: tuple[str, ...] = ()
    type: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Failed:
    code: str
    message: str
    param: str | None = None
    retryable: bool = False
    type: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``reason``: ``requested`` by somebody, or ``no_reader`` was left."""

    reason: Literal["requested", "no_reader"]
    usage: Usage | None = None
    type: Literal["cancelled"] = "cancelled"


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline passed before the job could end."""

    message: str = field(default="the job's deadline passed before it ended")
    type: Literal["expired"] = "expired"


Terminal = Finished | Failed | Cancelled | Expired
Delta = TextDelta | ReasoningDelta | ToolCall
Event = Queued | Started | Loading | Delta | StepDone | Preview | Embedded | Held | Resumed | Terminal

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def encode(event: Event) -> bytes:
    return _ADAPTER.dump_json(event)


def decode(data: bytes | str) -> Event:
    """Raises pydantic.ValidationError when ``data`` is not an event this version wrote."""
    return _ADAPTER.validate_json(data)


def is_terminal(event: Event) -> bool:
    return isinstance(event, Finished | Failed | Cancelled | Expired)
