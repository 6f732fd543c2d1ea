"""A job's journal as the native dialect tells it: every event as it was journalled, files as addresses."""

from __future__ import annotations

import json
from typing import Any

from api.errors import Problem
from api.jobs import urls
from api.stream import SseVoice, comment, data_line
from tasks import events
from tasks.events import ArtifactRef, Event, Finished, Preview
from tasks.jobs import JobId
from tasks.journal import Entry


class EventVoice(SseVoice):
    """``stream.Voice`` of the native dialect."""

    def __init__(self, job_id: JobId) -> None:
        self._job_id = job_id

    async def tell(self, entry: Entry) -> bytes:
        head = f"id: {entry.id}\nevent: {entry.event.type}\n".encode()
        return head + data_line(self._data(entry.event))

    def fail(self, problem: Problem) -> bytes:
        return comment(f"{problem.code}: {problem.message}; resume with Last-Event-ID")

    def _data(self, event: Event) -> bytes:
        if isinstance(event, Preview):
            return _with(event, picture=_file(event.picture, urls.preview(self._job_id, event.step)))
        if isinstance(event, Finished) and event.output:
            files = [_file(file, urls.picture(self._job_id, n)) for n, file in enumerate(event.output)]
            return _with(event, output=files)
        return events.encode(event)


def _with(event: Event, **changed: Any) -> bytes:
    return json.dumps({**json.loads(events.encode(event)), **changed}, separators=(",", ":")).encode()


def _file(file: ArtifactRef, url: str) -> dict[str, Any]:
    """Where a client finds it; where it lies with us is not his affair."""
    return {"url": url, "media_type": file.media_type, "size_bytes": file.size_bytes, "sha256": file.sha256}
