"""A job: one unit a user waits for, frozen once it is accepted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, NewType

from pydantic import Field, TypeAdapter

from tasks.pictures.header import PictureFormat
from tasks.webhooks.words import Announcement

JobId = NewType("JobId", str)
QueueName = NewType("QueueName", str)

ANONYMOUS = "anonymous"
"""The owner of every job while the server asks for no key."""


class JobKind(StrEnum):
    CHAT = "chat"
    IMAGE = "image"
    EMBED = "embed"
    MODEL = "model"


class JobClass(StrEnum):
    """The order of service: ``priority`` before ``chat`` before ``image`` before ``batch``."""

    PRIORITY = "priority"
    CHAT = "chat"
    IMAGE = "image"
    BATCH = "batch"


class JobState(StrEnum):
    """queued → running → one of the four ends; a job that lost its worker goes back to ``queued``."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class FinishReason(StrEnum):
    """``TOOL_CALLS``: the answer ends in calls that the client is to make."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool that an assistant's turn made. ``arguments`` is JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask the client to call. ``parameters`` is JSON text of a JSON schema.

    ``strict``: the arguments of every call are what that schema allows.
    """

    name: str
    description: str
    parameters: str
    strict: bool = False


class ToolChoice(StrEnum):
    """Whether the model may, must not, or must call a tool; a name instead means that one."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as the chat template wants it.

    ``calls`` and ``reasoning`` stand in an assistant's turn, ``call_id`` in a tool's: which call it is the
    result of.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. ``seed`` and position alone key the randomness; temperature 0 is greedy.

    ``max_tokens`` None means: up to the end of the context. ``top_k`` 0 means: no limit.
    ``repetition_penalty`` looks at the last ``repetition_window`` tokens of prompt and answer (0: all), the
    other penalties at the answer. ``logit_bias`` are pairs of token id and what is added to its logit.
    ``logprobs``: how many alternatives to tell per token; None: tell no probabilities.
    """

    seed: int
    max_tokens: int | None = None
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether the model thinks before it answers; None leaves it to the package.

    Past ``budget_tokens`` its thoughts are closed for it, so that an answer comes; None: no bound.
    """

    is_on: bool | None = None
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What every job has beside its work.

    ``has_reader``: somebody waits on the line, so the job may be cancelled when nobody reads any more.
    ``deadline_at_ms`` and ``created_at_ms`` are wall-clock milliseconds since the epoch. ``retry_of`` is the
    job of the same batch that did not succeed and that this one takes the place of. ``custom_id`` is what the
    client calls the line of a batch file that asked for it; the jobs of one line share it. ``announcement``:
    what webhooks are told when it has ended.
    """

    id: JobId
    owner: str
    job_class: JobClass
    created_at_ms: int
    has_reader: bool = False
    deadline_at_ms: int | None = None
    batch: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    retry_of: JobId | None = None
    custom_id: str | None = None
    announcement: Announcement | None = None


@dataclass(frozen=True, slots=True)
class AsResponse:
    """What a job that answers one of OpenAI's Responses has beside its chat.

    ``is_stored``: it can be asked for by its id, and gone on from. ``is_background``: nobody waits for it on
    the line, so its end is news. The first ``before`` messages of the job stood before its own input: its
    instructions (``has_instructions``: the very first one), and all that ``previous`` had come to. ``said``:
    what the answer repeats of the request.
    """

    is_stored: bool
    is_background: bool
    previous: JobId | None = None
    has_instructions: bool = False
    before: int = 0
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """What a model is to go on from as it stands, without a chat template: a text, or its tokens.

    ``suffix`` is what stands behind the answer: the model fills in what is between.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    suffix: str | None = None


@dataclass(frozen=True, slots=True)
class ChatJob:
    """Answer ``messages`` with ``model``; or, where there is ``raw``, go on from that instead.

    ``calls_once``: the answer ends behind its first call of a tool. ``json_schema``: the answer, but not the
    thoughts before it, is JSON that this schema allows. ``response``: it was asked for as a Response.
    """

    submission: Submission
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    template_options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | str = ToolChoice.AUTO
    calls_once: bool = False
    thinking: Thinking = Thinking()
    json_schema: str | None = None
    response: AsResponse | None = None
    raw: RawPrompt | None = None
    kind: Literal[JobKind.CHAT] = JobKind.CHAT


class Resize(StrEnum):
    """How a source picture of another shape becomes one of the size that is drawn.

    ``CROP`` keeps its proportions and cuts what is over; ``FILL`` keeps all of it and repeats its edges.
    """

    STRETCH = "stretch"
    CROP = "crop"
    FILL = "fill"


class MaskBy(StrEnum):
    """What in a mask says that a place is redrawn.

    ``WHITE``: its brightness (black stays), as AUTOMATIC1111's clients send it. ``TRANSPARENT``: its alpha
    channel (opaque stays), as OpenAI's do; a mask without one leaves nothing to redraw.
    """

    WHITE = "white"
    TRANSPARENT = "transparent"


@dataclass(frozen=True, slots=True)
class Source:
    """The picture to start from, kept by the API as ``inputs/<sha256>`` in the data directory.

    ``strength``, above 0 and at most 1, is the share of the schedule that is drawn anew. ``mask_sha256``
    names a picture that says where, by ``mask_by``; None redraws all of it.
    """

    sha256: str
    strength: float
    resize: Resize = Resize.STRETCH
    mask_sha256: str | None = None
    mask_by: MaskBy = MaskBy.WHITE


@dataclass(frozen=True, slots=True)
class ImageJob:
    """Draw one picture of ``prompt`` with ``model``, ``width_px`` by ``height_px``.

    ``seed``, 0 to 2³² − 1, keys all the noise. ``guidance_scale`` 1 is one pass of the UNet per step and
    leaves ``negative_prompt`` without effect; above 1 each step takes two. ``quality``, 1 to 100, is for JPEG
    and WebP; None leaves it to the engine. ``previews``: show how the picture comes along after every step
    but the last.
    """

    submission: Submission
    model: str
    prompt: str
    seed: int
    width_px: int
    height_px: int
    steps: int
    negative_prompt: str = ""
    guidance_scale: float = 1.0
    source: Source | None = None
    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    previews: bool = False
    kind: Literal[JobKind.IMAGE] = JobKind.IMAGE


Text = str | tuple[int, ...]
"""What is embedded: text, or the token ids that the model's own tokenizer makes of one, marks included."""


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """One vector for each of ``inputs``, of unit length. Without inputs: bring ``model`` to the card.

    ``dimensions``: so many of the vector's first numbers; None: all. ``prompt_name``: which of the package's
    prompts stands before each text; None: the package's own choice. ``truncate``: what is longer than the
    model's context is cut, else refused.
    """

    submission: Submission
    model: str
    inputs: tuple[Text, ...]
    dimensions: int | None = None
    prompt_name: str | None = None
    truncate: bool = False
    kind: Literal[JobKind.EMBED] = JobKind.EMBED


@dataclass(frozen=True, slots=True)
class ModelJob:
    """Bring ``model`` to the card, or take it off. It makes nothing; its journal tells the progress."""

    submission: Submission
    model: str
    action: Literal["load", "unload"]
    kind: Literal[JobKind.MODEL] = JobKind.MODEL


Job = ChatJob | ImageJob | EmbedJob | ModelJob
"""Every kind of job there is; told apart by ``kind``."""

_ADAPTER: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def new_job_id() -> JobId:
    """``job_`` and 160 random bits: not to be guessed, so that an id can serve as its own address."""
    return JobId("job_" + secrets.token_hex(20))


def new_batch_id() -> str:
    """Not to be guessed either, see ``new_job_id``."""
    return "batch_" + secrets.token_hex(20)


def queue_of(job: Job) -> QueueName:
    """The Celery queue that serves this job: one per class and model."""
    return queue_name(job.submission.job_class, job.model)


def queue_name(job_class: JobClass, model: str) -> QueueName:
    return QueueName(f"{job_class.value}.{model}")


def encode(job: Job) -> bytes:
    return _ADAPTER.dump_json(job)


def decode(data: bytes | str) -> Job:
    """Raises pydantic.ValidationError when ``data`` is not a job this version wrote."""
    return _ADAPTER.validate_json(data)
