"""The native shapes: what a job, the queue and a card look like. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.openai.schemas import ChatRequest
from api.webhooks.asked import WebhookField
from tasks.jobs import JobKind, JobState, MaskBy, Resize
from tasks.pictures.header import PictureFormat
from tasks.webhooks.outbox import DeliveryState

Seconds = Annotated[float, Field(description="Seconds since the epoch, to the millisecond.")]


DeadlineS = Annotated[
    float | None,
    Field(
        gt=0, le=30 * 86400, allow_inf_nan=False, description="The job expires if it has not ended by then."
    ),
]
GridIn = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [{"type": "object", "additionalProperties": {"type": "array"}}, {"type": "null"}]}
    ),
    Field(
        description="Lists of values by field: one job for each combination, the last field changing fastest."
    ),
]


class JobRequest(ChatRequest):
    """One job: the fields of a chat completion, and what it asks of the queue. It is never cancelled for want
    of a reader."""

    kind: Annotated[Literal["chat"], Field(description="What is to be done.")] = "chat"
    job_class: Annotated[
        Literal["priority", "chat", "batch"] | None,
        Field(
            alias="class",
            description="`batch` waits behind everybody else, `priority` goes ahead where it may; "
            "default `chat`.",
        ),
    ] = None
    deadline_s: DeadlineS = None
    webhook: WebhookField = None
    grid: GridIn = None


class HoldOut(BaseModel):
    reason: Literal["thermal", "telemetry", "loading", "operator", "card_lost", "starting"]
    message: str
    since: Seconds


class EtaOut(BaseModel):
    """When the job will begin and end if nothing more arrives, by the rule that will serve it."""

    starts_at: Seconds
    ends_at: Seconds
    basis: Annotated[
        Literal["measured", "guessed"],
        Field(description="Whether jobs of this queue have been measured before."),
    ]


class ProgressOut(BaseModel):
    done: int
    total: int | None
    unit: str


class TimingsOut(BaseModel):
    queued_ms: float
    load_ms: float
    run_ms: float


class JobUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class OutputOut(BaseModel):
    """One piece of what the job made: thoughts, text, a call of a tool, a picture, or all its vectors."""

    type: Literal["reasoning", "text", "tool_call", "image", "embeddings"]
    text: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: Annotated[str | None, Field(description="The JSON of an object.")] = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    url: Annotated[
        str | None, Field(description="Where the picture's file is, or the vectors; it does not change.")
    ] = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    count: Annotated[int | None, Field(description="How many vectors.")] = None
    dimensions: Annotated[int | None, Field(description="Numbers in each.")] = None


class SourceOut(BaseModel):
    sha256: str
    strength: float
    resize: Resize
    mask_sha256: str | None
    mask_by: MaskBy | None


class InputOut(BaseModel):
    """What a picture was drawn from: the request with everything that it had left open."""

    prompt: str
    negative_prompt: str
    size: str
    steps: int
    seed: int
    guidance_scale: float
    format: PictureFormat
    quality: int | None
    previews: bool
    source: SourceOut | None


class JobError(BaseModel):
    code: str
    message: str


class Urls(BaseModel):
    self: str
    events: str
    cancel: str
    output: Annotated[
        list[str], Field(description="The pictures, or the vectors, as soon as they are there.")
    ]
    preview: Annotated[str | None, Field(description="The latest preview, when previews were asked for.")]
    batch: str | None


class WebhookOut(BaseModel):
    """One event on its way to one address."""

    event: Annotated[str | None, Field(description="The `webhook-id`; null until there is one.")]
    type: Annotated[str | None, Field(description="What happened; null until it has.")]
    url: Annotated[str | None, Field(description="The address that the request named.")]
    endpoint: Annotated[str | None, Field(description="The endpoint that was registered for such events.")]
    state: Annotated[
        DeliveryState,
        Field(
            description="`waiting` for the end, `pending` until one attempt succeeds or the last one fails."
        ),
    ]
    attempts: int
    last_status: Annotated[int | None, Field(description="What the receiver answered last.")]
    last_error: str | None
    next_at: Annotated[Seconds | None, Field(description="When it is tried again, at the latest.")]


class JobOut(BaseModel):
    id: str
    object: Literal["job"] = "job"
    kind: JobKind
    model: str
    state: JobState
    hold: Annotated[HoldOut | None, Field(description="Why nothing moves just now; shown beside the state.")]
    queue: Annotated[str, Field(description="Class and model: `chat.qwen3-4b`.")]
    position: Annotated[int | None, Field(description="1 is next; null unless queued.")]
    eta: Annotated[EtaOut | None, Field(description="null unless queued, and while it is held.")]
    progress: ProgressOut | None
    attempt: Annotated[int, Field(description="Rises each time a worker takes the job.")]
    created_at: Seconds
    started_at: Seconds | None
    ended_at: Seconds | None
    timings: TimingsOut
    usage: JobUsage | None
    output: list[OutputOut]
    strikes: Annotated[int, Field(description="How often a process died while executing this job.")]
    error: JobError | None
    warnings: list[str]
    metadata: dict[str, str]
    input: Annotated[InputOut | None, Field(description="Null unless it is a picture.")]
    batch: Annotated[str | None, Field(description="What the jobs of one list, set or grid have in common.")]
    custom_id: Annotated[str | None, Field(description="The line of a batch's file that asked for this job.")]
    retry_of: Annotated[str | None, Field(description="The failed job that this one takes the place of.")]
    retried_as: Annotated[str | None, Field(description="The job that takes the place of this one.")]
    webhooks: Annotated[
        list[WebhookOut], Field(description="Who is told that it has ended, and how far that has come.")
    ]
    urls: Urls


class JobRef(BaseModel):
    id: str
    state: JobState
    url: str


class JobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[JobOut]
    has_more: bool
    last_id: Annotated[str | None, Field(description="Pass it as `after` for the next page.")]
    batch: Annotated[str | None, Field(description="The batch that these jobs are, or are of.")] = None
    jobs: Annotated[list[JobRef], Field(description="The same in short, in the same order.")]
    unreadable: Annotated[
        list[str],
        Field(description="Ids of jobs in this page that another version of Hearth wrote; not in `data`."),
    ] = []


class BatchCounts(BaseModel):
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int


class BatchUrls(BaseModel):
    self: str
    jobs: str
    cancel: str
    retry_failed: str


class BatchOut(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    state: Annotated[
        Literal["queued", "running", "ended"],
        Field(description="`queued` until the first job starts, `ended` when all have."),
    ]
    total: Annotated[int, Field(description="Jobs in the batch; one that was retried counts once.")]
    counts: BatchCounts
    retried: Annotated[int, Field(description="Jobs that failed and were retried: not in `counts`.")]
    progress: ProgressOut
    eta: Annotated[
        EtaOut | None,
        Field(description="When the next job begins and the last one ends; null unless some wait, and held."),
    ]
    created_at: Seconds
    started_at: Seconds | None
    ended_at: Seconds | None
    webhooks: Annotated[list[WebhookOut], Field(description="Who was told that all its jobs have ended.")]
    urls: BatchUrls


class QueueRow(BaseModel):
    name: str
    job_class: Annotated[str, Field(alias="class")]
    model: str
    queued: int
    running: int
    oldest_ready_at: Seconds | None
    is_paused: bool


class CardHold(HoldOut):
    card: str


class ResumeRequest(BaseModel):
    """Which queues go on; every pause within them is taken back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_class: Annotated[
        Literal["priority", "chat", "image", "batch"] | None,
        Field(alias="class", description="Left out: any."),
    ] = None
    model: Annotated[str | None, Field(min_length=1, description="Left out: any.")] = None


class PauseRequest(ResumeRequest):
    """Which queues rest."""

    message: Annotated[str, Field(max_length=200, description="Why, for everybody who waits.")] = ""
    rest_running: Annotated[
        bool, Field(description="A running job rests between two steps instead of being finished.")
    ] = False


class PauseOut(BaseModel):
    """One pause. null: of any."""

    job_class: Annotated[str | None, Field(alias="class")]
    model: str | None
    message: str
    since: Seconds
    rest_running: bool


class EtaErrorOut(BaseModel):
    """How good the ETAs were that jobs were told."""

    median: Annotated[
        float | None, Field(description="By which share of a job's whole time its end was off.")
    ]
    jobs: Annotated[int, Field(description="The last so many jobs.")]


class QueueOut(BaseModel):
    """Everything that waits and runs, whoever it belongs to: counts only."""

    object: Literal["queue"] = "queue"
    queued: int
    running: int
    queues: list[QueueRow]
    holds: list[CardHold]
    eta_error: EtaErrorOut
    pauses: Annotated[list[PauseOut], Field(description="What an operator has paused.")]


class ResidentOut(BaseModel):
    model: str
    size_bytes: int
    context: int | None
    used_at: Seconds


class TelemetryOut(BaseModel):
    """The last reading; what the card did not tell is null."""

    read_at: Seconds
    temperature_c: float | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    npu_percent: float | None
    cpu_percent: float | None


class HeartbeatOut(BaseModel):
    at: Seconds
    busy: bool
    call_since: Seconds | None
    call_limit_s: float | None


class CardOut(BaseModel):
    id: str
    object: Literal["card"] = "card"
    virtual: Annotated[
        bool, Field(description="True: a card made of software; its speed tells nothing of a real one.")
    ]
    name: str | None
    firmware: str | None
    bus_id: str | None
    memory_total_bytes: int | None
    residents: list[ResidentOut]
    telemetry: TelemetryOut | None
    hold: HoldOut | None
    duty: Annotated[
        float, Field(description="The share of the time it may work: below 1 it is eased, at 0 it is held.")
    ]
    heartbeat: Annotated[HeartbeatOut | None, Field(description="Null: no process serves this card.")]


class CardList(BaseModel):
    object: Literal["list"] = "list"
    data: list[CardOut]


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str
    uptime_s: float


class Ready(BaseModel):
    ready: bool
    checks: Annotated[dict[str, bool], Field(description="redis, catalog, worker, monitor, card, queue.")]
    why: Annotated[list[str], Field(description="One sentence for each check that failed.")]


JobAnswer = JobOut | JobList
