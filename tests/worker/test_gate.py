"""The gate's parts: what it reads from Redis, and how it brings a consumer to a level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from tasks import board, keys
from tests.worker.fake_models import model
from worker.gate import FactReader, Level

CARD = "virtual-0"


@dataclass
class FakeConsumer:
    """Consumes in the order in which queues were added, as Celery's does. Fails once when told to."""

    app: Any = None
    timer: Any = None
    task_consumer: Any = None
    queues: list[str] = field(default_factory=list)
    calls: int = 0
    fails_at: int | None = None

    def add_task_queue(self, queue: str) -> None:
        self._call()
        if queue not in self.queues:
            self.queues.append(queue)

    def cancel_task_queue(self, queue: str) -> None:
        self._call()
        if queue in self.queues:
            self.queues.remove(queue)

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise redis.ConnectionError


levels = st.lists(st.lists(st.sampled_from("abcde"), unique=True), max_size=8)


@given(levels)
def test_the_consumer_is_brought_to_exactly_the_level_in_its_order(wanted: list[list[str]]) -> None:
    consumer = FakeConsumer()
    level = Level(consumer)
    for queues in wanted:
        level.bring_to(queues)
        assert consumer.queues == queues


@given(levels, st.integers(1, 12))
def test_a_failure_in_the_middle_is_made_good_at_the_next_look(wanted: list[list[str]], at: int) -> None:
    consumer = FakeConsumer(fails_at=at)
    level = Level(consumer)
    for queues in wanted:
        try:
            level.bring_to(queues)
        except redis.ConnectionError:
            level.bring_to(queues)
        assert consumer.queues == queues


def test_what_stands_right_already_is_not_touched() -> None:
    consumer = FakeConsumer()
    level = Level(consumer)
    level.bring_to(["a", "b"])
    assert not level.bring_to(["a", "b"])
    level.bring_to(["a", "b", "c"])
    assert consumer.calls == 3


@pytest.fixture
def reader(store: redis.Redis, settings: Settings) -> FactReader:
    store.set(keys.telemetry(CARD), board.encode(board.Telemetry(0, 30.0)))
    store.set(keys.CATALOG, board.encode(board.Catalog(0, (model("m"),))))
    return FactReader(store, settings)


def test_the_facts_are_the_catalogs_queues_the_pauses_and_the_waiting(
    reader: FactReader, store: redis.Redis
) -> None:
    store.sadd(keys.QUEUES, "batch.gone")
    store.hset(keys.PAUSES, "image.m", "")
    store.zadd(keys.queue("chat.m"), {"job_2": 7, "job_1": 5})
    reader.read(CARD)
    facts = reader.read(CARD)  # the queues found by the first look are asked for by the second
    assert facts.queues == {"priority.m", "chat.m", "image.m", "batch.m", "batch.gone"}
    assert facts.paused == {"image.m"}
    assert facts.held is None
    assert facts.oldest_ready_ms == {"chat.m": 5}


def test_a_new_catalog_brings_its_queues(reader: FactReader, store: redis.Redis) -> None:
    reader.read(CARD)
    store.set(keys.CATALOG, board.encode(board.Catalog(1, (model("n"),))))
    assert "chat.n" in reader.read(CARD).queues


def test_a_hold_is_read_with_its_reason(reader: FactReader, store: redis.Redis) -> None:
    store.set(keys.hold(CARD), board.encode(board.Hold("thermal", "81 °C", 0)))
    assert reader.read(CARD).held == "thermal: 81 °C"


def test_without_telemetry_a_hold_is_written_for_running_jobs_and_expires_by_itself(
    reader: FactReader, store: redis.Redis
) -> None:
    store.delete(keys.telemetry(CARD))
    held = reader.read(CARD).held
    assert held is not None
    assert held.startswith("telemetry: ")
    first = board.decode(board.Hold, store.get(keys.hold(CARD)))
    assert first is not None
    assert first.reason == "telemetry"
    assert 0 < store.pttl(keys.hold(CARD)) <= 3000
    store.pexpire(keys.hold(CARD), 1000)
    reader.read(CARD)
    assert store.pttl(keys.hold(CARD)) > 2000
    assert board.decode(board.Hold, store.get(keys.hold(CARD))) == first


def test_a_full_redis_holds_the_running_job_too(reader: FactReader, store: redis.Redis) -> None:
    store.delete(keys.telemetry(CARD))
    store.config_set("maxmemory", 1)
    try:
        held = reader.read(CARD).held
    finally:
        store.config_set("maxmemory", 0)
    assert held is not None
    assert held.startswith("telemetry: ")
    assert store.exists(keys.hold(CARD))


def test_a_dead_monitors_own_hold_is_left_as_it_is(reader: FactReader, store: redis.Redis) -> None:
    hold = board.Hold("thermal", "81 °C", 5)
    store.set(keys.hold(CARD), board.encode(hold))
    store.delete(keys.telemetry(CARD))
    assert reader.read(CARD).held == "thermal: 81 °C"
    assert store.ttl(keys.hold(CARD)) == -1
    assert board.decode(board.Hold, store.get(keys.hold(CARD))) == hold


def test_an_operator_may_work_without_readings(store: redis.Redis, settings: Settings) -> None:
    thermal = settings.thermal.model_copy(update={"hold_without_readings": False})
    reader = FactReader(store, settings.model_copy(update={"thermal": thermal}))
    assert reader.read(CARD).held is None
    assert not store.exists(keys.hold(CARD))
