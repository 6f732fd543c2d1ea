"""Vectors as journals and records keep them, and as clients want them: base64 of float32, or numbers."""

from __future__ import annotations

import asyncio
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from tasks.jobs import EmbedJob
from tasks.made import Made
from tasks.records import JobRecord

_MANY_BYTES = 64 * 1024
"""Writing so many bytes of vectors as numbers takes 20 ms: more is done beside the event loop."""


def of_journal(made: Made) -> list[bytes]:
    """One vector for each input, as float32, little-endian."""
    return [b64decode(event.vector) for event in made.embedded]


def of_record(record: JobRecord) -> list[bytes]:
    """The same from what the record kept; empty when it kept none."""
    count = len(record.job.inputs) if isinstance(record.job, EmbedJob) else 0
    if not count or not record.vectors:
        return []
    size = len(record.vectors) // count
    return [record.vectors[at : at + size] for at in range(0, len(record.vectors), size)]


def numbers(vector: bytes) -> list[float]:
    """In nine digits, the fewest from which every float32 is itself again."""
    return [float(f"{each:.9g}") for each in struct.unpack(f"<{len(vector) // 4}f", vector)]


def listed(model: str, vectors: Sequence[bytes], prompt_tokens: int, *, as_base64: bool) -> dict[str, Any]:
    """OpenAI's list of embeddings."""
    form = (lambda vector: b64encode(vector).decode()) if as_base64 else numbers
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": form(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


async def respond(
    model: str,
    vectors: Sequence[bytes],
    prompt_tokens: int,
    *,
    as_base64: bool,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``listed`` as an answer; a long one is written while others are served."""

    def written() -> Response:
        body = listed(model, vectors, prompt_tokens, as_base64=as_base64)
        return JSONResponse(body, headers=dict(headers or {}))

    is_long = sum(map(len, vectors)) > _MANY_BYTES
    return await asyncio.to_thread(written) if is_long else written()
