"""From the body of ``POST /v1/jobs`` to jobs: one, a list, grids, sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from api.board import resolve, resolve_or_default
from api.context import Context
from api.embeddings.wanted import resolve_embedding
from api.errors import Refusal, outer
from api.jobs import embeddings
from api.jobs.embeddings import EmbedJobRequest
from api.jobs.grid import Cell, cells
from api.jobs.pictures import ImageJobRequest, drawing_of
from api.jobs.schemas import JobRequest
from api.openai.faults import json_name
from api.openai.request import chat_jobs, job_class, validated
from api.pictures.drawing import image_jobs
from api.pictures.inputs import InputPicture, Inputs
from api.terms import Terms
from api.webhooks.asked import announcement
from tasks.board import Catalog
from tasks.errors import JobError
from tasks.jobs import Job, JobClass, new_batch_id

_KNOWN = {
    "chat": {field.alias or name for name, field in JobRequest.model_fields.items()},
    "image": {field.alias or name for name, field in ImageJobRequest.model_fields.items()},
    "embed": {field.alias or name for name, field in EmbedJobRequest.model_fields.items()},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for. ``is_set``: the answer is a list, and the jobs are a batch."""

    jobs: list[Job]
    inputs: list[InputPicture]
    is_set: bool


async def wanted(value: Any, catalog: Catalog, owner: str, shared: Context, *, may_go_ahead: bool) -> Wanted:
    """The jobs that ``value`` asks for, in their order.

    Raises:
        Refusal, JobError: a field is at fault; ``param`` is its place in ``value``.
    """
    reading = _Reading(shared, catalog, owner, Inputs(shared.settings.limits), may_go_ahead)
    if isinstance(value, list):
        jobs = await reading.many(value)
    else:
        jobs = await reading.one(value, _is_grid(value))
    is_set = isinstance(value, list) or _is_grid(value) or len(jobs) > 1
    return Wanted(jobs, reading.inputs.all, is_set)


def _is_grid(value: Any) -> bool:
    return isinstance(value, dict) and value.get("grid") is not None


@dataclass(slots=True)
class _Reading:
    shared: Context
    catalog: Catalog
    owner: str
    inputs: Inputs
    may_go_ahead: bool
    count: int = 0

    async def many(self, value: list[Any]) -> list[Job]:
        most = self.shared.settings.limits.jobs_per_request
        if not 1 <= len(value) <= most:
            raise Refusal("invalid_value", f"the list should hold 1 to {most} jobs, not {len(value)}")
        terms = Terms(self.owner, JobClass.CHAT, batch=new_batch_id())
        jobs: list[Job] = []
        for index, item in enumerate(value):
            with _seen_from(f"[{index}]"):
                jobs += await self._expanded(item, terms)
        return jobs

    async def one(self, value: Any, is_grid: bool) -> list[Job]:
        batch = new_batch_id() if is_grid else None
        return await self._expanded(value, Terms(self.owner, JobClass.CHAT, batch=batch))

    async def _expanded(self, value: Any, terms: Terms) -> list[Job]:
        """All that one object asks for: its grid's combinations, each with its ``n``."""
        if not isinstance(value, dict):
            raise Refusal("invalid_type", f"a job is to be a JSON object, not {json_name(value)}")
        kind = value.get("kind", "chat")
        if not isinstance(kind, str) or kind not in _KNOWN:
            raise Refusal("invalid_value", "'kind' should be 'chat', 'image' or 'embed'", "kind")
        jobs: list[Job] = []
        for cell in cells(value, _KNOWN[kind], self._most):
            with _seen_from("", cell):
                made = await self._made(kind, cell, terms)
            jobs += made
            self._count(len(made))
        return jobs

    async def _made(self, kind: str, cell: Cell, terms: Terms) -> list[Job]:
        if kind == "image":
            return await self._pictures(cell, terms)
        return [self._vectors(cell, terms)] if kind == "embed" else await self._chat(cell, terms)

    @property
    def _most(self) -> int:
        return self.shared.settings.limits.jobs_per_request

    def _count(self, more: int) -> None:
        self.count += more
        if self.count > self._most:
            raise Refusal(
                "invalid_value", f"these are more than the {self._most} jobs that are taken at once"
            )

    async def _chat(self, cell: Cell, terms: Terms) -> list[Job]:
        fields = validated(JobRequest, cell.body)
        model = resolve(self.catalog, fields.model, fields.kind)
        asked = job_class(fields, may_go_ahead=self.may_go_ahead)
        if fields.job_class is not None:
            asked = JobClass(fields.job_class)
        if asked is JobClass.PRIORITY and not self.may_go_ahead:
            raise Refusal("permission_denied", "this key's jobs may not go ahead of others", "class")
        own = self._terms(terms, asked, fields)
        return [*chat_jobs(fields, model, own, self.shared.settings)]

    def _vectors(self, cell: Cell, terms: Terms) -> Job:
        fields = validated(EmbedJobRequest, cell.body)
        model = resolve_embedding(self.catalog, fields.model)
        own = self._terms(terms, JobClass(fields.job_class or "batch"), fields)
        return embeddings.wanted_vectors(fields, cell.body, model, own, self.shared.settings)

    def _terms(
        self, terms: Terms, job_class: JobClass, fields: JobRequest | ImageJobRequest | EmbedJobRequest
    ) -> Terms:
        told = announcement(fields.webhook, self.shared.settings)
        return replace(terms, job_class=job_class, deadline_s=fields.deadline_s, announcement=told)

    async def _pictures(self, cell: Cell, terms: Terms) -> list[Job]:
        fields = validated(ImageJobRequest, cell.body)
        model = resolve_or_default(self.catalog, fields.model, "image")
        own = self._terms(terms, JobClass(fields.job_class or "image"), fields)
        drawing = await drawing_of(fields, cell.body, self.inputs)
        made = image_jobs(drawing, model, own, self.shared.settings, count=fields.n or 1, most=self._most)
        return list(made)


@contextmanager
def _seen_from(prefix: str, cell: Cell | None = None) -> Iterator[None]:
    """Faults within are told by their place in the whole body."""

    def place(param: str | None) -> str | None:
        inner = param if cell is None else cell.outer(param)
        return outer(prefix, inner) or None

    try:
        yield
    except Refusal as refusal:
        problem = refusal.problem
        raise Refusal(problem.code, problem.message, place(problem.param)) from None
    except JobError as error:
        error.param = place(error.param)
        raise
