"""Ollama's shapes: what its requests may hold. Source: ollama/ollama, docs/api.md and api/types.go, 2026-08.

Fields of more than one form are ``Any`` here, with the schema for the documentation; ``request.py`` looks at
them itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from api.openai.schemas import Factor, Int64, Penalty, Wire

_TEXT = {"type": "string"}
KeepAlive = Annotated[
    Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "number"}, {"type": "null"}], "examples": ["10m", -1]})
]
Format = Annotated[Any, WithJsonSchema({"anyOf": [{"const": "json"}, {"type": "object"}, {"type": "null"}]})]
Think = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["low", "medium", "high"]}, {"type": "null"}]}),
]
Stop = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]})]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(Wire):
    """How tokens are chosen. Options that are not listed have no effect here and are not an error."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Int64 | None = None
    num_predict: (
        Annotated[
            int, Field(ge=-2, le=2**31 - 1, description="At most so many tokens; -1 and -2: until it ends.")
        ]
        | None
    ) = None
    num_ctx: (
        Annotated[
            int, Field(description="A package has the context it was compiled for: more has no effect.")
        ]
        | None
    ) = None
    repeat_penalty: Factor | None = None
    repeat_last_n: (
        Annotated[
            int, Field(ge=-1, le=2**31 - 1, description="Tokens the penalty looks back at; -1: all; 0: none.")
        ]
        | None
    ) = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: Stop = None


class CalledIn(Wire):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class CallIn(Wire):
    id: str | None = None
    function: CalledIn


class MessageIn(Wire):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[CallIn] | None = None
    tool_name: Annotated[str | None, Field(description="Which tool this is the result of.")] = None
    tool_call_id: str | None = None


class _Request(Wire):
    model: Annotated[str, Field(min_length=1, description="A name of `GET /api/tags`.")]
    stream: Annotated[bool | None, Field(description="One JSON object a line, as it comes; the default.")] = (
        None
    )
    options: Options | None = None
    think: Annotated[Think, Field(description="Whether the model thinks before it answers.")] = None
    format: Annotated[Format, Field(description="Bind the answer to JSON, or to a JSON schema.")] = None
    keep_alive: Annotated[
        KeepAlive,
        Field(description="A wish only: a model stays on the card until another one needs its room."),
    ] = None


class OllamaChat(_Request):
    """A conversation, as Ollama's SDK sends it. Without messages: bring the model to the card."""

    messages: list[MessageIn] | None = None
    tools: Annotated[list[Any] | None, Field(max_length=128)] = None


class OllamaGenerate(_Request):
    """A prompt, answered as the user's turn of a conversation. Without one: bring the model to the card."""

    prompt: str | None = None
    system: str | None = None
    suffix: Annotated[
        str | None, Field(description="What stands behind the gap; for models that were made to fill one.")
    ] = None
    template: str | None = None
    context: list[int] | None = None
    raw: Annotated[bool | None, Field(description="Go on with the prompt as it stands.")] = None
    images: list[Any] | None = None


class NameRequest(Wire):
    """A model by its name; ``name`` is the older word for it."""

    model: str | None = None
    name: str | None = None


class OllamaShow(NameRequest):
    verbose: bool | None = None


class OllamaPull(NameRequest):
    stream: bool | None = None
    insecure: bool | None = None


class OllamaDelete(NameRequest):
    """Which model is to be removed."""
