"""The place in the queue, and journals followed from before anybody listens."""

from __future__ import annotations

import random
from typing import Any

import pytest

from api.context import Context
from api.follow import Following, place_of
from config.settings import Settings
from tasks import records
from tasks.jobs import JobClass
from tests.api.conftest import ClientOf
from tests.api.support import TINY, StandIn, ask, publish


async def test_places_are_told_without_gaps_and_in_class_order(
    settings: Settings, astore: Any, store: Any
) -> None:
    other = type(TINY)(id="other", kind="chat", directory="/o", size_bytes=1, created_at_s=1)
    publish(store, TINY, other)
    house = ClientOf(settings)
    context: Context = house.app.state.context
    dice = random.Random(7)
    async with house as client:
        ids = []
        for _ in range(20):
            asked = {**ask(model=dice.choice(["tiny", "other"])), "class": dice.choice(["chat", "batch"])}
            ids.append((await client.post("/v1/jobs", json=asked)).json()["id"])
        for job_id in dice.sample(ids, 5):
            await client.post(f"/v1/jobs/{job_id}/cancel")
        places = []
        for job_id in ids:
            place = await place_of(context, job_id)
            record = await records.fetch(astore, job_id)
            assert record is not None
            if place is not None:
                places.append((place, record.job.submission.job_class))
        assert await place_of(context, "job_" + "0" * 40) is None
    assert sorted(place for place, _ in places) == list(range(1, 16))
    in_order = [job_class for _, job_class in sorted(places)]
    assert in_order == sorted(in_order, key=list(JobClass).index)


async def test_closing_lets_go_of_the_journal(settings: Settings, worker: StandIn) -> None:
    house = ClientOf(settings)
    context: Context = house.app.state.context
    async with house as client:
        worker.pause()
        job: dict[str, Any] = (await client.post("/v1/jobs", json=ask())).json()
        entries = Following(context, job["id"], renew=True)
        assert await entries.any()
        assert context.journals.following == 1
        assert (await anext(entries)).event.type == "queued"
        await entries.aclose()
        await entries.aclose()
        assert context.journals.following == 0


async def test_a_job_that_is_not_there_has_no_journal(settings: Settings, store: Any) -> None:
    house = ClientOf(settings)
    async with house:
        entries = Following(house.app.state.context, "job_" + "0" * 40, renew=False)
        with pytest.raises(KeyError):
            await anext(entries)
        await entries.aclose()


async def test_nothing_is_followed_once_answers_are_given(settings: Settings, worker: StandIn) -> None:
    house = ClientOf(settings)
    async with house as client:
        for asked in (ask("say a"), ask("say a", stream=True), ask("too long"), ask("too long", stream=True)):
            await client.post("/v1/chat/completions", json=asked)
        await client.post("/v1/jobs", json=[ask("say a")] * 3, headers={"Prefer": "wait=5"})
        assert house.app.state.context.journals.following == 0
