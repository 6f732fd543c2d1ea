"""Whatever happens in whatever order: the promises of the queue hold."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, Phase, strategies
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from config.groups import QueueSettings
from config.settings import Settings
from tasks import events, keys, outcome, scripts, submit
from tasks.cancel import cancel
from tasks.connection import connect, connect_async
from tasks.errors import Busy
from tasks.events import Event, Queued, Started, TextDelta
from tasks.jobs import ChatJob, JobClass, new_batch_id
from tasks.made import Made
from tasks.ownership import Owner, take_card
from tasks.reaper import Reaper
from tasks.records import fetch, position
from tasks.webhooks.words import JOB_EVENTS, Announcement
from tests.tasks.factory import DONE, make_job

Thing = TypeVar("Thing")
CAP = 3
LEASE_MS = 20_000
ENDINGS: list[events.Terminal] = [DONE, events.Failed("x", "y"), events.Expired()]


@dataclass
class Held:
    """A worker's idea of a job it runs; it may be stale."""

    job: ChatJob
    epoch: int
    attempt: int
    card: str
    written: int = 0


@dataclass
class World:
    """What the model knows: who was accepted, what was cancelled, what each worker holds."""

    jobs: dict[str, ChatJob] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    strikes: dict[str, int] = field(default_factory=dict)
    said: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)


class Lifecycle(RuleBasedStateMachine):
    settings_in_force: ClassVar[Settings]

    def __init__(self) -> None:
        super().__init__()
        queue = QueueSettings(chat_cap=CAP, batch_cap=CAP, max_strikes=2)
        self.settings = self.settings_in_force.model_copy(update={"queue": queue})
        self.loop = asyncio.new_event_loop()
        self.store = connect(self.settings)
        self.astore = connect_async(self.settings)
        self.store.flushall()
        self.world = World()
        self.owners = {card: take_card(card, self.store, self.settings) for card in ("c0", "c1")}
        self.clock_s = time.time()
        self.reaper = Reaper(
            self.store,
            self.settings,
            send=lambda *_: True,
            monotonic=lambda: self.clock_s,
            wall_ms=lambda: self.clock_s * 1000,
        )
        for _ in range(5):
            self.reaper.beat()
            self.clock_s += LEASE_MS / 4000

    def teardown(self) -> None:
        self.loop.run_until_complete(self.astore.aclose())
        self.loop.close()
        self.store.close()

    # --- What can happen

    @rule(many=strategies.integers(1, 2), job_class=strategies.sampled_from([JobClass.CHAT, JobClass.BATCH]))
    def submit(self, many: int, job_class: JobClass) -> None:
        told = Announcement("job", url="https://hooks.test/", events=JOB_EVENTS)
        about: dict[str, Any] = {"announcement": told, "batch": new_batch_id() if many > 1 else None}
        jobs = [make_job(model=f"m{i % 2}", job_class=job_class, **about) for i in range(many)]
        open_now = sum(
            1
            for job_id, job in self.world.jobs.items()
            if job_id not in self.world.ended and job.submission.job_class is job_class
        )
        try:
            self.loop.run_until_complete(submit.submit_many(self.astore, jobs, self.settings))
        except Busy:
            assert open_now + many > CAP
            return
        assert open_now + many <= CAP
        self.world.jobs |= {job.submission.id: job for job in jobs}

    def _claim(self, owner: Owner, job: ChatJob, nonce: str) -> Any:
        return scripts.run(
            self.store,
            "claim",
            job.submission.id,
            owner.card,
            owner.epoch,
            keys.epoch(owner.card),
            LEASE_MS,
            nonce,
            10_000,
            3_600_000,
            60_000,
        )

    @precondition(lambda self: self.world.jobs)
    @rule(data=strategies.data(), card=strategies.sampled_from(["c0", "c1"]))
    def deliver(self, data: strategies.DataObject, card: str) -> None:
        """A message comes, perhaps not for the first time."""
        # Jobs that have not ended come three times as often: what is interesting happens to them.
        still_open = [job_id for job_id in self.world.jobs if job_id not in self.world.ended]
        job = self.world.jobs[self._pick(data, [*still_open * 3, *self.world.jobs])]
        state = self.store.hget(keys.job(job.submission.id), "state")
        reply = self._claim(self.owners[card], job, f"n{len(self.world.held)}")
        assert (reply[0] == b"claimed") == (state == b"queued")
        if reply[0] == b"claimed":
            self.world.held.append(Held(job, self.owners[card].epoch, int(reply[1]), card))

    @precondition(lambda self: self.world.held)
    @rule(data=strategies.data(), repeat=strategies.booleans())
    def append(self, data: strategies.DataObject, repeat: bool) -> None:
        held = self._pick(data, self.world.held[-4:])
        said = self.world.said.setdefault(held.job.submission.id, [])
        token = len(said)
        first, mine = held.written + 1, self._is_current(held)
        for _ in range(2 if repeat else 1):
            reply = scripts.run(
                self.store,
                "append",
                *self._token(held),
                first,
                outcome.tokens(token, None),
                events.encode(TextDelta("x", (token,))),
            )
            assert reply == int(mine)
        if mine:
            said.append(token)
            held.written += 1

    @precondition(lambda self: self.world.held)
    @rule(data=strategies.data())
    def beat(self, data: strategies.DataObject) -> None:
        held = self._pick(data, self.world.held[-4:])
        facts = keys.hold(held.card), keys.ease(held.card)
        reply = scripts.run(self.store, "beat", *self._token(held), LEASE_MS, 1, 10_000, *facts)
        assert reply[0] == int(self._is_current(held))

    @precondition(lambda self: self.world.held)
    @rule(
        data=strategies.data(),
        ending=strategies.sampled_from([DONE, events.Failed("x", "y"), events.Expired()]),
    )
    def finish(self, data: strategies.DataObject, ending: events.Terminal) -> None:
        held = self._pick(data, self.world.held[-4:])
        mine = self._is_current(held)
        state = outcome.state_after(ending).value
        fields = outcome.record_fields(ending, Made(), "")
        reply = scripts.run(
            self.store, "finish", *self._token(held), state, events.encode(ending), 1000_000, 1, 0, *fields
        )
        assert reply == int(mine)
        if mine:
            self.world.ended[held.job.submission.id] = state

    @precondition(lambda self: self.world.held)
    @rule(data=strategies.data())
    def shut_down(self, data: strategies.DataObject) -> None:
        held = self._pick(data, self.world.held[-4:])
        mine = self._is_current(held)
        wanted = not self.store.hexists(keys.job(held.job.submission.id), "cancel")
        reply = scripts.run(self.store, "give_back", *self._token(held), "shutdown", 1000_000, 1)
        assert reply == (b"lost" if not mine else b"queued" if wanted else b"cancelled")
        if mine and not wanted:
            self.world.ended[held.job.submission.id] = "cancelled"

    @precondition(lambda self: self.world.jobs)
    @rule(data=strategies.data())
    def cancel(self, data: strategies.DataObject) -> None:
        job_id = self._pick(data, list(self.world.jobs))
        before = self.store.hget(keys.job(job_id), "state")
        state = self.loop.run_until_complete(cancel(self.astore, job_id, settings=self.settings))
        assert state is not None
        if before == b"queued":
            self.world.ended[job_id] = "cancelled"
        assert state.value == self.world.ended.get(job_id, "running")

    @rule(card=strategies.sampled_from(["c0", "c1"]))
    def worker_dies(self, card: str) -> None:
        """Whatever it ran is struck; the next owner comes."""
        bereaved = [held for held in self.world.held if held.card == card and self._is_current(held)]
        self._expect_strikes(bereaved)
        self.owners[card] = take_card(card, self.store, self.settings)

    @rule()
    def leases_run_out(self) -> None:
        bereaved = [held for held in self.world.held if self._is_current(held)]
        for held in bereaved:
            self.store.zadd(keys.LEASES, {held.job.submission.id: 1})
        self._expect_strikes(bereaved)
        self.clock_s += 5
        report = self.reaper.beat()
        assert report.waiting is None
        assert len(report.requeued) + len(report.failed) + len(report.cancelled) == len(bereaved)

    def _pick(self, data: strategies.DataObject, choices: Sequence[Thing]) -> Thing:
        """By index: ids are random, and Hypothesis wants the same draws for the same choices."""
        return choices[data.draw(strategies.integers(0, len(choices) - 1))]

    def _expect_strikes(self, bereaved: list[Held]) -> None:
        for held in bereaved:
            job_id = held.job.submission.id
            self.world.strikes[job_id] = self.world.strikes.get(job_id, 0) + 1
            if self.store.hexists(keys.job(job_id), "cancel"):
                self.world.ended[job_id] = "cancelled"
            elif self.world.strikes[job_id] >= self.settings.queue.max_strikes:
                self.world.ended[job_id] = "failed"

    def _token(self, held: Held) -> tuple[str, int, int]:
        return held.job.submission.id, held.epoch, held.attempt

    def _is_current(self, held: Held) -> bool:
        raw: Any = self.store.hmget(keys.job(held.job.submission.id), "state", "epoch", "attempt")
        return bool(raw == [b"running", str(held.epoch).encode(), str(held.attempt).encode()])

    @rule()
    def look_at_places(self) -> None:
        async def places() -> list[int]:
            found = []
            for job_id in self.world.jobs:
                record = await fetch(self.astore, job_id)
                assert record is not None
                place = await position(self.astore, record.id)
                assert (place is None) == (record.state != "queued")
                found += [] if place is None else [place]
            return found

        found = self.loop.run_until_complete(places())
        assert sorted(found) == list(range(1, len(found) + 1))

    # --- What always holds

    @invariant()
    def the_promises_hold(self) -> None:
        pipe: Any = self.store.pipeline(transaction=False)
        for job_id in self.world.jobs:
            pipe.xrange(keys.journal(job_id))
            pipe.hmget(keys.job(job_id), "state", "attempt", "strikes")
            pipe.zscore(keys.READY, job_id)
            pipe.zscore(keys.LEASES, job_id)
        told = pipe.execute()
        for i, job_id in enumerate(self.world.jobs):
            raw, (state, attempt, strikes), ready, lease = told[4 * i : 4 * i + 4]
            journal = [events.decode(fields[b"e"]) for _, fields in raw]
            self._one_end_or_a_future(job_id, journal, state.decode(), ready is not None, lease is not None)
            self._said_once_and_in_order(job_id, journal)
            self._attempts_and_strikes(job_id, journal, int(attempt), int(strikes))
        self._counts_equal_reality()
        self._every_end_is_in_the_outbox_once()

    def _one_end_or_a_future(
        self, job_id: str, journal: list[Event], state: str, waits: bool, runs: bool
    ) -> None:
        ends = [event for event in journal if events.is_terminal(event)]
        if job_id in self.world.ended:
            assert ends == journal[-1:]
            assert isinstance(ends[0], events.Terminal)
            assert state == self.world.ended[job_id] == outcome.state_after(ends[0]).value
            assert not waits
            assert not runs
        else:
            assert ends == []
            assert (waits, runs) == (state == "queued", state == "running")
            assert waits != runs

    def _said_once_and_in_order(self, job_id: str, journal: list[Event]) -> None:
        written = [t for event in journal if isinstance(event, TextDelta) for t in event.token_ids]
        assert written == self.world.said.get(job_id, [])

    def _attempts_and_strikes(self, job_id: str, journal: list[Event], attempt: int, strikes: int) -> None:
        started = [event.attempt for event in journal if isinstance(event, Started)]
        assert started == list(range(1, attempt + 1))
        assert strikes == self.world.strikes.get(job_id, 0)
        given_back = sum(isinstance(event, Queued) for event in journal) - 1
        assert 0 <= attempt - given_back <= 1

    def _counts_equal_reality(self) -> None:
        for job_class in (JobClass.CHAT, JobClass.BATCH):
            still_open = [
                job_id
                for job_id, job in self.world.jobs.items()
                if job.submission.job_class is job_class and job_id not in self.world.ended
            ]
            assert int(self.store.hget(keys.COUNTS, job_class.value) or 0) == len(still_open)
        owned: Any = self.store.hvals(keys.OWNED)
        assert sum(map(int, owned)) == len(self.world.jobs) - len(self.world.ended)
        assert self.store.zcard(keys.ENDED) == len(self.world.ended)
        assert self.store.zcard(keys.JOBS) == len(self.world.jobs)

    def _every_end_is_in_the_outbox_once(self) -> None:
        """Nobody takes anything out here; a batch has ended when all of its jobs have."""
        letters: Any = self.store.zrange(keys.OUTBOX, 0, -1)
        bodies = [json.loads(self.store.hget(keys.delivery(each.decode()), "body") or "") for each in letters]
        told = sorted((body["type"], body["data"]["id"]) for body in bodies)
        ends = [(f"job.{state}", job_id) for job_id, state in self.world.ended.items()]
        batches = {job.submission.batch for job in self.world.jobs.values()} - {None}
        for job_id, job in self.world.jobs.items():
            if job_id not in self.world.ended:
                batches.discard(job.submission.batch)
        assert told == sorted([*ends, *(("job_batch.ended", str(batch)) for batch in batches)])


def test_the_promises_hold_in_every_order(
    settings: Settings, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "send", lambda *_: True)
    Lifecycle.settings_in_force = settings
    run_state_machine_as_test(
        Lifecycle,
        settings=hypothesis_settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            database=None,
            # Shrinking a failure takes minutes here; the steps as they came are told anyway.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
