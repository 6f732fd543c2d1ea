"""A chat that somebody waits for: submitted, and its journal followed from before the first token on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request, Response

from api.context import Context
from api.errors import Problem, Refusal, of_end, shutting_down
from api.follow import Following, place_of
from api.stream import SSE, JournalStream, Voice
from api.wait import ClientGone, Leaving, on_the_line, whole
from tasks import records
from tasks.cancel import cancel
from tasks.events import Cancelled, Expired, Failed, Finished, Started
from tasks.jobs import ChatJob, ImageJob, JobId
from tasks.made import Made
from tasks.submit import Idempotency, submit

Kind = TypeVar("Kind", ChatJob, ImageJob)

_CLIENT_CLOSED = 499
"""Nobody reads it; nginx's word for a client that left."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a journal said, and that it ended well."""

    made: Made
    end: Finished


@dataclass(frozen=True, slots=True)
class Asked:
    """``keep``: the job goes on when nobody is on the line any more. ``place`` is its place in the queue."""

    job: ChatJob
    entries: Following
    place: int | None
    keep: bool

    @property
    def headers(self) -> dict[str, str]:
        told = {"x-job-id": str(self.job.submission.id)}
        if self.place is not None:
            told["x-queue-position"] = str(self.place)
        if self.job.submission.warnings:
            told["x-hearth-warnings"] = warning_header(self.job.submission.warnings)
        return told

    def stream(self, shared: Context, voice: Voice, request_id: str, media_type: str = SSE) -> Response:
        """The answer as it is made, in the words of ``voice``."""
        return JournalStream(
            shared,
            self.job.submission.id,
            self.entries,
            voice,
            request_id=request_id,
            headers=self.headers,
            place=self.place,
            media_type=media_type,
        )

    async def told(
        self,
        request: Request,
        shared: Context,
        on_start: Callable[[Started], None] = lambda _: None,
        problem_of: Callable[[Failed | Cancelled | Expired], Problem] = of_end,
    ) -> Answered | Response:
        """The whole answer; or what is answered instead, when it failed or one of the two sides left.

        Unless it is to be kept, the job is cancelled when the client leaves, and when this process does: the
        client will ask again by itself, and two jobs for one question would be one too many.
        """
        waiting = asyncio.create_task(whole(self.entries, on_start))
        try:
            told = await on_the_line(shared, request.receive, waiting)
        except (ClientGone, Leaving) as left:
            if not self.keep:
                await cancel(
                    shared.redis, self.job.submission.id, reason="no_reader", settings=shared.settings
                )
            if isinstance(left, ClientGone):
                return Response(status_code=_CLIENT_CLOSED, headers=self.headers)
            return self._response(shutting_down(), request)
        if not isinstance(told.end, Finished):
            return self._response(problem_of(told.end), request)
        return Answered(told.made, told.end)

    def _response(self, problem: Problem, request: Request) -> Response:
        response = problem.response(request.url.path)
        response.headers.update(self.headers)
        return response


async def ask(
    request: Request, shared: Context, wanted: ChatJob, idempotency: Idempotency | None = None, *, keep: bool
) -> Asked:
    """Submit ``wanted``, or find the job that an earlier request with this key became, and follow it.

    Raises JobError and Refusal.
    """
    accepted = await submit(shared.redis, wanted, shared.settings, idempotency)
    job = wanted if not accepted.replayed else await earlier(shared, accepted.job_id, ChatJob)
    entries = Following(shared, job.submission.id, renew=not keep)
    try:
        place = await place_of(shared, job.submission.id)
    except BaseException:
        await entries.aclose()
        raise
    return Asked(job, entries, place, keep)


def keeps(request: Request) -> bool:
    """Whether the job is to go on without anybody who reads its answer."""
    return request.headers.get("x-hearth-keep", "").lower() == "true"


def warning_header(warnings: Iterable[str]) -> str:
    """All warnings in one line that a header can hold."""
    return "; ".join(warnings).encode("ascii", "replace").decode()


async def earlier(shared: Context, job_id: JobId, kind: type[Kind]) -> Kind:
    """The job that an earlier request with the same Idempotency-Key became.

    Raises:
        Refusal: it is no longer kept, or is of another kind.
    """
    record = await records.fetch(shared.redis, job_id)
    if record is None:
        raise Refusal("job_not_found", "the job of this Idempotency-Key is no longer kept; use another key")
    if not isinstance(record.job, kind):
        raise Refusal(
            "invalid_value", "this Idempotency-Key belongs to a job of another kind; use another key"
        )
    return record.job
