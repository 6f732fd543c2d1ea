"""OpenAI's shapes: what a chat request may hold, and what we answer. Validation and documentation in one.

Fields of more than one form (a string or a list) are ``Any`` here, with the schema for the documentation:
``request.py`` looks at them itself, because it can name the place of a fault better than a union can.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.openai.tiers import Tier, TierGiven

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]

_TEXT = {"type": "string"}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": _TEXT},
    "required": ["type", "text"],
}
Content = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [_TEXT, {"type": "array", "items": _PART}], "title": "Text, or a list of text parts"}
    ),
]
Stop = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4}, {"type": "null"}]}),
]
Choice = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "object"}, {"type": "null"}]})]


Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Wire(BaseModel):
    """Strict about types, deaf to names it does not know."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class CalledIn(Wire):
    name: Name
    arguments: Annotated[str, Field(description="The JSON of an object.")]


class CallIn(Wire):
    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: str = "function"
    function: CalledIn


class FunctionIn(Wire):
    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, Field(description="A JSON schema.")] = None
    strict: bool | None = None


class ToolIn(Wire):
    type: str
    function: FunctionIn


class MessageIn(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[CallIn] | None = None
    reasoning_content: Annotated[
        str | None, Field(description="What the assistant thought; the template decides what becomes of it.")
    ] = None
    function_call: Any = None
    refusal: str | None = None
    audio: Any = None


class StreamOptions(Wire):
    include_usage: Annotated[
        bool | None, Field(description="One more chunk with the usage before `[DONE]`.")
    ] = None
    include_obfuscation: bool | None = None


class NamedSchema(Wire):
    name: Name
    description: str | None = None
    json_schema: Annotated[
        dict[str, Any] | None, Field(alias="schema", description="A JSON schema; none: any object.")
    ] = None
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Annotated[str, Field(description="`text`, `json_object` or `json_schema`.")]
    json_schema: NamedSchema | None = None


class SamplingIn(Wire):
    """How the tokens of a text are to be chosen."""

    temperature: Annotated[
        float | None,
        Field(
            ge=0, le=2, allow_inf_nan=False, description="0 always takes the likeliest token; default 0.7."
        ),
    ] = None
    top_p: Annotated[
        float | None, Field(ge=0, le=1, allow_inf_nan=False, description="Nucleus sampling.")
    ] = None
    top_k: Annotated[
        int | None,
        Field(ge=-1, le=2**31 - 1, description="Only the likeliest k tokens; 0 or -1: all. Not OpenAI's."),
    ] = None
    seed: Annotated[
        Int64 | None, Field(description="The same seed and request give the same answer on the same card.")
    ] = None
    stop: Annotated[
        Stop, Field(description="Up to four strings that end the answer; they are not part of it.")
    ] = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[
        Factor | None, Field(description="Above 1 avoids what was said before. Not OpenAI's.")
    ] = None
    repeat_penalty: Annotated[Factor | None, Field(description="Another name of repetition_penalty.")] = None
    min_p: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Only tokens this share as likely as the likeliest. Not OpenAI's.",
        ),
    ] = None
    typical_p: Annotated[
        float | None,
        Field(gt=0, le=1, allow_inf_nan=False, description="Locally typical sampling. Not OpenAI's."),
    ] = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = None


class ChatRequest(SamplingIn):
    """A chat completion. What Hearth does not know is ignored; what it knows but cannot honour is refused, or
    reported in `x-hearth-warnings`."""

    model: Annotated[str, Field(min_length=1, description="Id or alias of a model of `GET /v1/models`.")]
    messages: Annotated[
        list[MessageIn], Field(min_length=1, description="The conversation, oldest turn first.")
    ]
    stream: Annotated[
        bool | None, Field(description="Send the answer as server-sent events, as it is made.")
    ] = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[Tokens | None, Field(description="At most so many tokens are made.")] = (
        None
    )
    max_tokens: Annotated[
        Tokens | None, Field(description="The older name; `max_completion_tokens` wins.")
    ] = None
    n: Annotated[
        int | None, Field(ge=1, le=128, description="So many choices, each with a seed of its own.")
    ] = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Up to 16 pairs, kept with the job (64 and 512 characters).")
    ] = None
    user: str | None = None
    service_tier: Annotated[
        Tier | None,
        Field(
            description="`flex` waits behind everybody else (class `batch`), `priority` and `fast` go ahead "
            "of other chats where this server lets them (class `priority`)."
        ),
    ] = None

    logprobs: Annotated[bool | None, Field(description="Tell how probable each token of the text was.")] = (
        None
    )
    top_logprobs: Annotated[int | None, Field(ge=0, le=20, description="With so many alternatives.")] = None
    tools: Annotated[
        list[ToolIn] | None, Field(max_length=128, description="Functions the model may ask you to call.")
    ] = None
    tool_choice: Choice = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="False: the answer ends behind its first call.")
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        Field(description="`none` switches thinking off, `minimal` and `low` bound it."),
    ] = None
    enable_thinking: Annotated[
        bool | None, Field(description="Whether the model thinks before it answers. Not OpenAI's.")
    ] = None
    thinking_budget: Annotated[
        int | None,
        Field(ge=0, le=2**31 - 1, description="Thoughts are closed after so many tokens. Not OpenAI's."),
    ] = None
    response_format: Annotated[
        ResponseFormat | None,
        Field(description="Bind the answer to JSON, or to a JSON schema; thoughts stay free."),
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Field(description="Options of the model's chat template. Not OpenAI's.")
    ] = None

    # Neutral values only: anything else would change the answer, and cannot be honoured yet.
    functions: list[Any] | None = None
    function_call: Choice = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None

    # Accepted; a warning says where it has no effect.
    store: bool | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    prediction: Any = None
    moderation: Any = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


class CalledOut(BaseModel):
    name: str
    arguments: Annotated[str, Field(description="The JSON of an object.")]


class CallOut(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: CalledOut


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: Annotated[str | None, Field(description="Null when there are only calls.")]
    refusal: None = None
    reasoning_content: Annotated[
        str | None, Field(description="What the model thought first. Left out when it did not think.")
    ] = None
    tool_calls: Annotated[list[CallOut] | None, Field(description="Left out when there are none.")] = None


class LogprobOut(BaseModel):
    token: str
    bytes: list[int]
    logprob: float


class TokenLogprobOut(LogprobOut):
    top_logprobs: list[LogprobOut]


class LogprobsOut(BaseModel):
    content: list[TokenLogprobOut]
    refusal: None = None


class ChatChoice(BaseModel):
    index: int = 0
    message: AssistantMessage
    logprobs: LogprobsOut | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    reasoning_tokens: int = 0


class UsageOut(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ChatCompletion(BaseModel):
    """The answer of a chat request that did not ask for a stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: Annotated[int, Field(description="Seconds since the epoch.")]
    model: str
    system_fingerprint: Annotated[
        str, Field(description="Ends in `-virtual` when no real card made the answer.")
    ]
    service_tier: Annotated[TierGiven, Field(description="The one that was given.")]
    choices: list[ChatChoice]
    usage: UsageOut


class PictureFacts(BaseModel):
    """What a picture model can draw."""

    sizes: Annotated[list[str], Field(description="`WIDTHxHEIGHT`; the first is the default.")]
    steps: list[int]
    default_steps: int
    from_pictures: Annotated[bool, Field(description="It can start from a picture (`/v1/images/edits`).")]


class EmbeddingFacts(BaseModel):
    """What an embedding model makes."""

    dimensions: Annotated[int | None, Field(description="Numbers in a vector; null until loaded once.")]
    shorter: Annotated[list[int], Field(description="Numbers of dimensions that vectors may be cut to.")]
    shortens: Annotated[bool, Field(description="They may be cut to any number.")]
    prompts: Annotated[list[str], Field(description="Names for `prompt_name`.")]


class ModelFacts(BaseModel):
    """What Hearth knows of a model beyond OpenAI's fields."""

    kind: Annotated[str, Field(description="`chat`, `image` or `embed`.")]
    family: str
    context: Annotated[
        int | None,
        Field(description="Tokens of prompt and answer together, or of a text; null until loaded once."),
    ]
    size_bytes: int
    aliases: list[str]
    is_demo: bool
    knows_tools: Annotated[bool, Field(description="Its chat template shows `tools` to it.")]
    knows_thinking: Annotated[bool, Field(description="It can think before it answers.")]
    is_resident: Annotated[bool, Field(description="On a card now: the next job need not wait for loading.")]
    needs_bytes: Annotated[
        int | None, Field(description="Card memory it takes; null when its files do not tell.")
    ]
    needs_basis: Annotated[
        Literal["estimated", "measured"] | None, Field(description="From its files, or when it was loaded.")
    ]
    fits: Annotated[
        bool | None,
        Field(description="Whether an empty card can hold it; null while no card has been heard of."),
    ]
    pictures: Annotated[PictureFacts | None, Field(description="Of models that draw; else null.")]
    embedding: Annotated[
        EmbeddingFacts | None, Field(description="Of models that make embeddings; else null.")
    ]
    problem: Annotated[str | None, Field(description="Why it cannot be used, and what to do about it.")]


class ModelOut(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "hearth"
    hearth: ModelFacts


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]
    unusable: Annotated[list[ModelOut], Field(description="Found, but not to be used; each says why.")]


class ErrorBody(BaseModel):
    message: str
    type: str
    param: Annotated[str | None, Field(description="The field at fault, like `messages[0].content`.")]
    code: Annotated[str, Field(description="Stable, for programs.")]


class ErrorEnvelope(BaseModel):
    error: ErrorBody
