"""What a request for a response may hold, and what a response looks like: OpenAI's shapes.

The values of fields that chat completions have too are checked where those are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from api.openai.schemas import StreamOptions, Tokens, Wire

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
Input = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [_TEXT, {"type": "array", "items": _OBJECT}], "title": "Text, or a list of items"}
    ),
]
Choice = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, _OBJECT, {"type": "null"}]})]
Content = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _OBJECT}]})]


class MessageItem(Wire):
    role: Literal["user", "assistant", "system", "developer"]
    content: Content = None


class CallItem(Wire):
    call_id: str
    name: str
    arguments: str


class CallOutputItem(Wire):
    call_id: str
    output: Content = None


class ThoughtPart(Wire):
    text: str


class ReasoningItem(Wire):
    summary: list[ThoughtPart] | None = None
    content: list[ThoughtPart] | None = None
    encrypted_content: str | None = None


class ReferenceItem(Wire):
    id: str


class ToolIn(Wire):
    """A function, flat: not below a `function` as chat completions have it."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, Field(description="A JSON schema.")] = None
    strict: bool | None = None


class FormatIn(Wire):
    type: Annotated[str, Field(description="`text`, `json_object` or `json_schema`.")]
    name: str | None = None
    description: str | None = None
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema", description="A JSON schema.")] = None
    strict: bool | None = None


class TextIn(Wire):
    format: FormatIn | None = None
    verbosity: str | None = None


class ReasoningIn(Wire):
    effort: Annotated[str | None, Field(description="As chat's `reasoning_effort`.")] = None
    summary: Annotated[
        Literal["auto", "concise", "detailed"] | None,
        Field(description="Tell the thoughts, whole, as a summary instead of as `reasoning_text`."),
    ] = None
    generate_summary: Annotated[
        Literal["auto", "concise", "detailed"] | None, Field(description="The older name of `summary`.")
    ] = None


class ResponsesRequest(Wire):
    """A response. What Hearth does not know is ignored; what it knows but cannot honour is refused, or
    reported in `x-hearth-warnings`. `seed`, `stop`, `top_k` and the other fields that `/v1/chat/completions`
    has beyond OpenAI's Responses are honoured here too."""

    model: Annotated[str, Field(min_length=1, description="Id or alias of a model of `GET /v1/models`.")]
    input: Annotated[
        Input,
        Field(
            description="A user's words, or a list of messages, `function_call`, `function_call_output`, "
            "`reasoning` and `item_reference` items, oldest first."
        ),
    ] = None
    instructions: Annotated[
        str | None, Field(description="A system message before everything; not carried to the next response.")
    ] = None
    previous_response_id: Annotated[
        str | None, Field(description="Go on from this stored response: its conversation, then `input`.")
    ] = None
    stream: Annotated[bool | None, Field(description="Server-sent events, as the answer is made.")] = None
    stream_options: StreamOptions | None = None
    background: Annotated[
        bool | None, Field(description="Answer at once with `queued`; poll, stream or cancel it by its id.")
    ] = None
    store: Annotated[
        bool | None, Field(description="Default true: found again by its id for as long as jobs are kept.")
    ] = None
    tools: Annotated[
        list[ToolIn] | None, Field(max_length=128, description="Functions of your own; no hosted tools.")
    ] = None
    tool_choice: Choice = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="False: the answer ends behind its first call.")
    ] = None
    text: TextIn | None = None
    reasoning: ReasoningIn | None = None
    max_output_tokens: Annotated[Tokens | None, Field(description="At most so many tokens are made.")] = None
    temperature: Annotated[float | None, Field(description="0 always takes the likeliest token.")] = None
    top_p: Annotated[float | None, Field(description="Nucleus sampling.")] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20, description="So many alternatives per token, when `include` has them.")
    ] = None
    include: Annotated[
        list[str] | None, Field(description="`message.output_text.logprobs`; the rest has no effect here.")
    ] = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Up to 16 pairs, kept with the job (64 and 512 characters).")
    ] = None
    service_tier: Annotated[str | None, Field(description="As in chat completions.")] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None, Field(description="What does not fit is refused, never cut.")
    ] = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    max_tool_calls: int | None = None

    # Neutral values only: anything else would change the answer, and cannot be honoured.
    conversation: Choice = None
    prompt: Any = None
    context_management: list[Any] | None = None


class InputTokensDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int


class ResponseUsage(BaseModel):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseFault(BaseModel):
    code: Annotated[str, Field(description="Stable, for programs: the codes of error envelopes.")]
    message: str
    param: str | None
    type: str


class Incomplete(BaseModel):
    reason: Literal["max_output_tokens"]


class ResponseOut(BaseModel):
    """A response. `x-job-id` and the id's random part name the job behind it."""

    id: str
    object: Literal["response"] = "response"
    created_at: Annotated[int, Field(description="Seconds since the epoch.")]
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    completed_at: int | None
    error: ResponseFault | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: Annotated[
        list[dict[str, Any]], Field(description="`reasoning`, `message` and `function_call` items.")
    ]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Choice
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None


class ItemList(BaseModel):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
