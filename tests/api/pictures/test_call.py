"""Asking for a set of pictures, waiting for all of it, leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from fastapi import Request

from api.context import Context
from api.errors import Refusal
from api.main import create_app
from api.pictures import call
from api.pictures.drawing import Drawing, Origin, image_jobs
from api.pictures.inputs import from_value
from api.terms import Terms
from api.wait import ClientGone, Leaving
from config.settings import Settings
from tasks import keys
from tasks.events import Cancelled, Failed, Finished
from tasks.jobs import ANONYMOUS, ImageJob, JobClass
from tasks.submit import Idempotency
from tests.api.painting import a_picture
from tests.api.support import PICTURES, StandIn, until


@pytest.fixture
async def shared(settings: Settings, house: redis.Redis) -> AsyncIterator[Context]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app.state.context


def wanted(settings: Settings, prompt: str, count: int = 3, **values: Any) -> list[ImageJob]:
    terms = Terms(ANONYMOUS, JobClass.IMAGE, has_reader=True)
    return image_jobs(Drawing(prompt=prompt, seed=10, **values), PICTURES, terms, settings, count=count)


class Line:
    """A client's connection, as the server sees it."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self.request = Request({"type": "http", "headers": []}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def hang_up(self) -> None:
        self._gone.set()


def states(house: redis.Redis, jobs: list[ImageJob]) -> list[str]:
    told: list[Any] = [house.hget(keys.job(job.submission.id), "state") for job in jobs]
    return [state.decode() for state in told]


async def test_all_ends_come_in_the_order_of_the_jobs(shared: Context, worker: StandIn) -> None:
    jobs = await call.ask(shared, wanted(shared.settings, "odd", 4))
    ends = await call.all_ends(shared, Line().request, jobs, keep=False)
    assert [type(end) for end in ends] == [Finished, Failed, Finished, Failed]
    (file,) = ends[0].output if isinstance(ends[0], Finished) else ()
    assert (await call.read(shared, file)).startswith(b"\x89PNG")
    shared.files.path(file).unlink()
    with pytest.raises(Refusal) as refused:
        await call.read(shared, file)
    assert refused.value.problem.form.status == 410


async def test_who_leaves_takes_all_his_jobs_along(
    shared: Context, worker: StandIn, house: redis.Redis
) -> None:
    worker.pause()
    jobs = await call.ask(shared, wanted(shared.settings, "wait"))
    line = Line()
    waiting = asyncio.create_task(call.all_ends(shared, line.request, jobs, keep=False))
    worker.resume()
    await asyncio.to_thread(until, lambda: worker.seen)
    line.hang_up()
    with pytest.raises(ClientGone):
        await waiting
    await asyncio.to_thread(until, lambda: states(house, jobs) == ["cancelled"] * 3)
    assert house.hget(keys.job(jobs[0].submission.id), "cancelled_because") == b"no_reader"
    ends = await call.all_ends(shared, Line().request, jobs, keep=False)
    assert ends == [Cancelled("no_reader")] * 3


async def test_kept_jobs_go_on_without_anybody(shared: Context, worker: StandIn, house: redis.Redis) -> None:
    line = Line()
    jobs = await call.ask(shared, wanted(shared.settings, "slow"))
    waiting = asyncio.create_task(call.all_ends(shared, line.request, jobs, keep=True))
    await asyncio.to_thread(until, lambda: worker.seen)
    line.hang_up()
    with pytest.raises(ClientGone):
        await waiting
    await asyncio.to_thread(until, lambda: states(house, jobs) == ["succeeded"] * 3)


async def test_a_process_that_leaves_says_so(shared: Context, house: redis.Redis) -> None:
    jobs = await call.ask(shared, wanted(shared.settings, "x"))
    shared.closing.set()
    with pytest.raises(Leaving):
        await call.all_ends(shared, Line().request, jobs, keep=False)
    assert states(house, jobs) == ["cancelled"] * 3


async def test_a_request_that_is_repeated_gets_its_jobs_again(shared: Context) -> None:
    once = Idempotency("key", "hash")
    first = await call.ask(shared, wanted(shared.settings, "x"), idempotency=once)
    again = await call.ask(shared, wanted(shared.settings, "x"), idempotency=once)
    assert again == first


async def test_input_pictures_are_there_before_the_jobs_are(shared: Context) -> None:
    picture = await from_value(a_picture(), "image", shared.settings.limits)
    jobs = wanted(shared.settings, "x", 2, origin=Origin(picture))
    await call.ask(shared, jobs, [picture])
    assert jobs[0].source is not None
    assert shared.files.input(jobs[0].source.sha256).read_bytes() == picture.data
