"""Jobs that somebody waits for: submitted, and their journals followed from before the first event on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from fastapi import Request, Response

from api.context import Context
from api.errors import Problem, Refusal, of_end, shutting_down
from api.follow import Chorus, Following, place_of
from api.stream import SSE, JournalStream, Voice
from api.wait import ClientGone, Leaving, on_the_line, wholes
from tasks import records
from tasks.cancel import cancel
from tasks.events import Cancelled, Expired, Failed, Finished, Started
from tasks.jobs import ChatJob, EmbedJob, ImageJob, JobId
from tasks.made import Made
from tasks.submit import Idempotency, submit_many

Kind = TypeVar("Kind", ChatJob, ImageJob, EmbedJob)

_CLIENT_CLOSED = 499
"""Nobody reads it; nginx's word for a client that left."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a journal said, and that it ended well."""

    made: Made
    end: Finished


@dataclass(frozen=True, slots=True)
class AskedFor(Generic[Kind]):
    """The jobs of one request, more than one when it asked for several answers.

    ``keep``: they go on when nobody is on the line any more. ``place`` is the first one's place in the queue.
    """

    jobs: tuple[Kind, ...]
    entries: tuple[Following, ...]
    place: int | None
    keep: bool

    @property
    def job(self) -> Kind:
        return self.jobs[0]

    @property
    def headers(self) -> dict[str, str]:
        ids = [str(job.submission.id) for job in self.jobs]
        told = {"x-job-id": ids[0]}
        if len(ids) > 1:
            told["x-job-ids"] = ",".join(ids)
        if self.place is not None:
            told["x-queue-position"] = str(self.place)
        if self.job.submission.warnings:
            told["x-hearth-warnings"] = warning_header(self.job.submission.warnings)
        return told

    def stream(self, shared: Context, voice: Voice, request_id: str, media_type: str = SSE) -> Response:
        """The answers as they are made, in the words of ``voice``."""
        entries = (
            self.entries[0]
            if len(self.entries) == 1
            else Chorus(self.entries, partial(self._abandon, shared))
        )
        return JournalStream(
            shared,
            self.job.submission.id,
            entries,
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
        """``all_told`` of the first, where there is one."""
        told = await self.all_told(request, shared, on_start, problem_of)
        return told if isinstance(told, Response) else told[0]

    async def all_told(
        self,
        request: Request,
        shared: Context,
        on_start: Callable[[Started], None] = lambda _: None,
        problem_of: Callable[[Failed | Cancelled | Expired], Problem] = of_end,
    ) -> list[Answered] | Response:
        """All answers; or what is answered instead, when one of them failed or one of the two sides left.

        Unless they are to be kept, the jobs are cancelled when one of them fails, when the client leaves, and
        when this process does: the client will ask again by itself, and two jobs for one question would be
        one too many.
        """
        waiting = asyncio.create_task(wholes(self.entries, on_start))
        try:
            told = await on_the_line(shared, request.receive, waiting)
        except (ClientGone, Leaving) as left:
            await self._abandon(shared)
            if isinstance(left, ClientGone):
                return Response(status_code=_CLIENT_CLOSED, headers=self.headers)
            return self._response(shutting_down(), request)
        good: list[Answered] = []
        for one in told:
            if not isinstance(one.end, Finished):
                if len(self.jobs) > 1:
                    await self._abandon(shared)
                return self._response(problem_of(one.end), request)
            good.append(Answered(one.made, one.end))
        return good

    async def _abandon(self, shared: Context) -> None:
        """Cancel what has not ended; those that wait first, so that none begins when another makes room."""
        for job in () if self.keep else reversed(self.jobs):
            await cancel(shared.redis, job.submission.id, reason="no_reader", settings=shared.settings)

    def _response(self, problem: Problem, request: Request) -> Response:
        response = problem.response(request.url.path)
        response.headers.update(self.headers)
        return response


Asked = AskedFor[ChatJob]
"""Chats, which most who wait have asked for."""


async def ask(
    request: Request, shared: Context, wanted: Kind, idempotency: Idempotency | None = None, *, keep: bool
) -> AskedFor[Kind]:
    """``ask_all`` for one job."""
    return await ask_all(request, shared, [wanted], idempotency, keep=keep)


async def ask_all(
    request: Request,
    shared: Context,
    wanted: Sequence[Kind],
    idempotency: Idempotency | None = None,
    *,
    keep: bool,
) -> AskedFor[Kind]:
    """Submit what is ``wanted``, or find the jobs that an earlier request with this key became, and follow.

    Raises JobError and Refusal; then none of them was queued.
    """
    accepted = await submit_many(shared.redis, wanted, shared.settings, idempotency)
    jobs = tuple(wanted)
    if accepted[0].replayed:
        jobs = tuple([await earlier(shared, each.job_id, type(wanted[0])) for each in accepted])
    entries = tuple(Following(shared, job.submission.id, renew=not keep) for job in jobs)
    try:
        place = await place_of(shared, jobs[0].submission.id)
    except BaseException:
        for each in entries:
            await each.aclose()
        raise
    return AskedFor(jobs, entries, place, keep)


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
