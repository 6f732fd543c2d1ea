"""OpenAI's shapes for files and batches: what a request may hold, and what we answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.openai.schemas import Wire
from tasks.bulks import BulkState
from tasks.documents import Purpose

KEPT: Any = Field(ge=3600, le=2_592_000, description="An hour to 30 days; the server may keep it shorter.")


class FileOut(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(Wire):
    anchor: Literal["created_at"]
    seconds: Annotated[int, KEPT]


class FileForm(Wire):
    """A file, as a form."""

    file: Annotated[Any, Field(description="Its bytes and its name.")] = None
    purpose: Annotated[
        Literal["batch", "user_data", "vision"], Field(description="`batch` for requests, one a line.")
    ]
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[int | None, KEPT, Field(alias="expires_after[seconds]")] = None


class BatchRequest(Wire):
    """A batch: the requests of a file, answered within a day."""

    input_file_id: Annotated[
        str, Field(min_length=1, max_length=64, description="A file of purpose `batch`: JSON lines.")
    ]
    endpoint: Annotated[str, Field(description="The `url` of all its lines.")]
    completion_window: Literal["24h"]
    metadata: Annotated[
        dict[str, str] | None, Field(description="Up to 16 pairs (64 and 512 characters).")
    ] = None
    output_expires_after: Annotated[
        ExpiresAfter | None, Field(description="How long what comes of it is kept, from when it was made.")
    ] = None


class BatchFault(BaseModel):
    code: str
    line: Annotated[int | None, Field(description="Of the file, from 1.")]
    message: str
    param: str | None


class BatchFaults(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchFault]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class CachedTokens(BaseModel):
    cached_tokens: int


class ReasoningTokens(BaseModel):
    reasoning_tokens: int


class BatchUsage(BaseModel):
    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class BatchLinks(BaseModel):
    jobs: Annotated[str, Field(description="The jobs that its lines became.")]
    progress: Annotated[str, Field(description="How they stand, and when the last one will end.")]


Moment = int | None


class OpenAIBatch(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: Annotated[str | None, Field(description="Null where its lines name several.")]
    errors: Annotated[BatchFaults | None, Field(description="Why it failed: what is wrong with its file.")]
    input_file_id: str
    completion_window: str
    status: BulkState
    output_file_id: Annotated[str | None, Field(description="The answers, once it has ended.")]
    error_file_id: Annotated[str | None, Field(description="What got none, and why.")]
    created_at: int
    in_progress_at: Moment
    expires_at: int
    finalizing_at: Moment
    completed_at: Moment
    failed_at: Moment
    expired_at: Moment
    cancelling_at: Moment
    cancelled_at: Moment
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, str] | None
    hearth: Annotated[BatchLinks, Field(description="Not OpenAI's.")]


class OpenAIBatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIBatch]
    first_id: str | None
    last_id: str | None
    has_more: bool
