"""``/v1/files``: what batches are made of, and what they come to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from api import auth, context
from api.context import Context
from api.errors import Refusal
from api.openai.faults import missing
from api.openai.file_schemas import FileDeleted, FileForm, FileList, FileOut
from api.openai.request import validated
from api.openai.upload import Upload, receive
from api.respond import as_json, errors, form_body
from tasks import documents
from tasks.disk import is_full
from tasks.documents import Document, DocumentStore, Dropped, Kept, Purpose, new_document_id, no_room

router = APIRouter(prefix="/v1/files", tags=["OpenAI"])

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes.", "content": {"application/octet-stream": {}}}
}


@router.post(
    "",
    response_model=FileOut,
    responses=errors(400, 413, 415, 503, 507),
    openapi_extra=form_body(FileForm, "file"),
    operation_id="create_file",
)
async def create(request: Request) -> Response:
    """Keep a file: the requests of a batch, or data of your own. It is yours alone, and has its time."""
    shared = context.of(request)
    store, document_id = DocumentStore(shared.settings.data_dir), new_document_id()
    try:
        file = await asyncio.to_thread(store.begin, document_id)
        try:
            upload = await receive(request, file, shared.settings.limits.file_bytes)
            purpose, keep_s = _asked(shared, upload)
            await asyncio.to_thread(store.settle, document_id, file)
        finally:
            await asyncio.to_thread(store.abandon, file)
    except OSError as error:
        raise (no_room() if is_full(error) else error) from None
    await _note(request, shared, store, document_id, upload, purpose, keep_s)
    return as_json(told(await _owned(request, shared, document_id)))


def _asked(shared: Context, upload: Upload) -> tuple[Purpose, float]:
    """What the file is for, and how long it is to be kept, in seconds. Raises Refusal."""
    longest_s = shared.settings.queue.file_retention_s
    fields = validated(FileForm, upload.fields, strict=False)
    for name, value in (("anchor", fields.anchor), ("seconds", fields.seconds)):
        if value is None and (fields.anchor, fields.seconds) != (None, None):
            raise missing(f"expires_after[{name}]")
    keep_s = longest_s if fields.seconds is None else min(fields.seconds, longest_s)
    return Purpose(fields.purpose), keep_s


async def _note(
    request: Request,
    shared: Context,
    store: DocumentStore,
    document_id: str,
    upload: Upload,
    purpose: Purpose,
    keep_s: float,
) -> None:
    """Make the bytes on the disk a file of the caller's, or remove them. Raises Refusal."""
    kept = Kept.FULL
    try:
        kept = await documents.keep(
            shared.redis,
            document_id,
            owner=auth.owner(request),
            name=upload.name or "file",
            purpose=purpose,
            size_bytes=upload.size_bytes,
            keep_s=keep_s,
            settings=shared.settings,
        )
    finally:
        if kept is not Kept.KEPT:
            await asyncio.to_thread(store.discard, document_id)
    if kept is Kept.TOO_MANY:
        most = shared.settings.limits.files_per_key
        raise Refusal("too_many_files", f"your key has {most} files, which is all it may; delete some")
    if kept is Kept.FULL:
        most = shared.settings.limits.files_bytes
        raise Refusal("files_full", f"the files kept here take all of the {most} bytes they may; delete some")


@router.get("", response_model=FileList, responses=errors(400, 503), operation_id="list_files")
async def index(
    request: Request,
    purpose: Annotated[Purpose | None, Query(description="Only files of this purpose.")] = None,
    after: Annotated[str | None, Query(description="The `last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Files on a page.")] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: the newest first.")] = "desc",
) -> Response:
    """Your files."""
    try:
        page = await documents.page(
            context.of(request).redis,
            auth.owner(request),
            purpose=purpose,
            after=after,
            limit=limit,
            oldest_first=order == "asc",
        )
    except KeyError:
        raise Refusal("invalid_value", "'after' is not the id of one of your files", "after") from None
    data = [told(document) for document in page.documents]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return as_json(FileList(data=data, first_id=first, last_id=last, has_more=page.has_more))


@router.get("/{file_id}", response_model=FileOut, responses=errors(404, 503), operation_id="show_file")
async def show(request: Request, file_id: str) -> Response:
    """One file: its name, its size, how long it is kept."""
    return as_json(told(await _owned(request, context.of(request), file_id)))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={**_BYTES, **errors(404, 410, 503)},
    operation_id="download_file",
)
async def content(request: Request, file_id: str) -> Response:
    """What is in a file."""
    shared = context.of(request)
    document = await _owned(request, shared, file_id)
    path = DocumentStore(shared.settings.data_dir).path(document.id)
    if not path.is_file():
        raise Refusal("file_gone", "the file is no longer on the disk")
    return FileResponse(path, media_type="application/octet-stream", filename=document.name)


@router.delete(
    "/{file_id}", response_model=FileDeleted, responses=errors(404, 409, 503), operation_id="delete_file"
)
async def delete(request: Request, file_id: str) -> Response:
    """Remove a file. One that a batch still needs stays: 409."""
    shared = context.of(request)
    document = await _owned(request, shared, file_id)
    outcome = await documents.drop(shared.redis, document.id, DocumentStore(shared.settings.data_dir))
    if outcome is Dropped.NEEDED:
        message = "a batch that has not ended needs this file; cancel the batch, or wait for its end"
        raise Refusal("file_in_use", message)
    return as_json(FileDeleted(id=document.id))


async def _owned(request: Request, shared: Context, file_id: str) -> Document:
    """Raises Refusal when there is no such file for this key."""
    found = await documents.fetch(shared.redis, file_id, auth.owner(request))
    if found is None:
        raise Refusal("file_not_found", f"there is no file {file_id[:60]!a} here")
    return found


def told(document: Document) -> FileOut:
    return FileOut(
        id=document.id,
        bytes=document.size_bytes,
        created_at=document.created_at_ms // 1000,
        expires_at=document.expires_at_ms // 1000,
        filename=document.name,
        purpose=document.purpose,
    )
