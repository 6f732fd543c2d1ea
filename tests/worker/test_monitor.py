"""The monitor's duties, one call at a time, with a real Redis and a card whose readings are made up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from config.settings import Settings
from hardware.card import CardInfo
from hardware.choose import card_ids
from hardware.errors import CardLost
from hardware.health import Reading
from hardware.virtual.abi.options import SimOptions, bus_id
from hardware.virtual.smi import write_script
from hardware.virtual.state import CardState, Fault
from models.need import NEEDS
from tasks import board, keys
from tasks.connection import connect
from worker.catalog import MIB, fitting
from worker.monitor import Monitor

CARD = "virtual-0"


@dataclass
class Sensor:
    """Shows ``temperature_c``; None is a card that tells nothing."""

    temperature_c: float | None = 30.0
    looks: list[str] = field(default_factory=list)

    def read(self, settings: Settings, info: CardInfo) -> Reading:
        self.looks.append(info.id)
        return Reading(int(time.time() * 1000), temperature_c=self.temperature_c)


@pytest.fixture
def sensor() -> Sensor:
    return Sensor()


@pytest.fixture
def monitor(store: redis.Redis, settings: Settings, sensor: Sensor) -> Monitor:
    return Monitor(store, settings, read=sensor.read)


@pytest.fixture
def held(store: redis.Redis) -> Callable[[], str | None]:
    def reason() -> str | None:
        hold = board.decode(board.Hold, store.get(keys.hold(CARD)))
        return hold.reason if hold else None

    return reason


def beat(store: redis.Redis, **more: object) -> None:
    heartbeat = board.Heartbeat(at_ms=int(time.time() * 1000), pid=1, **more)  # type: ignore[arg-type]  # by name
    store.set(keys.heartbeat(CARD), board.encode(heartbeat))


def test_a_reading_is_told_with_an_end(monitor: Monitor, store: redis.Redis, settings: Settings) -> None:
    monitor.poll()
    told = board.decode(board.Telemetry, store.get(keys.telemetry(CARD)))
    assert told is not None
    assert told.temperature_c == 30.0
    limit_ms = settings.thermal.missing_polls * settings.thermal.poll_s * 1000
    assert limit_ms - 1000 < store.pttl(keys.telemetry(CARD)) <= limit_ms
    assert 0 < store.pttl(keys.MONITOR) <= limit_ms
    assert not store.exists(keys.hold(CARD))


def test_a_hot_card_is_held_until_it_has_cooled(
    monitor: Monitor, sensor: Sensor, held: Callable[[], str | None]
) -> None:
    told = []
    for sensor.temperature_c in (79.0, 80.5, 75.0, 70.5, 69.0, 75.0):
        monitor.poll()
        told.append(held())
    assert told == [None, "thermal", "thermal", "thermal", None, None]


def test_a_warm_card_is_eased_until_it_is_held_or_cool(
    monitor: Monitor, sensor: Sensor, store: redis.Redis
) -> None:
    duties = []
    for sensor.temperature_c in (70.0, 76.0, 78.0, 81.0, 60.0):
        monitor.poll()
        ease = board.decode(board.Ease, store.get(keys.ease(CARD)))
        duties.append(None if ease is None else ease.duty)
    assert duties[0] is None
    assert duties[1] is not None
    assert duties[2] is not None
    assert 0.1 <= duties[2] < duties[1] < 1.0
    assert duties[3:] == [None, None]


def test_a_scorched_card_is_held_empty(monitor: Monitor, sensor: Sensor, store: redis.Redis) -> None:
    told = []
    for sensor.temperature_c in (85.0, 91.0, 85.0, 69.0):
        monitor.poll()
        hold = board.decode(board.Hold, store.get(keys.hold(CARD)))
        told.append(None if hold is None else hold.unload)
    assert told == [False, True, True, None]


def test_thresholds_changed_meanwhile_are_obeyed_at_the_next_reading(
    monitor: Monitor, sensor: Sensor, store: redis.Redis, held: Callable[[], str | None]
) -> None:
    sensor.temperature_c = 81.0
    store.set(keys.THRESHOLDS, '{"hold_c": 85.0}')
    monitor.poll()
    assert held() is None
    store.delete(keys.THRESHOLDS)
    monitor.poll()
    assert held() == "thermal"


def test_a_hold_keeps_its_beginning_and_tells_the_temperature_of_now(
    monitor: Monitor, sensor: Sensor, store: redis.Redis
) -> None:
    holds = []
    for sensor.temperature_c in (85.0, 82.0):
        monitor.poll()
        holds.append(board.decode(board.Hold, store.get(keys.hold(CARD))))
        time.sleep(0.005)
    first, second = holds
    assert first is not None
    assert second is not None
    assert first.since_ms == second.since_ms
    assert "85.0 °C" in first.message
    assert "82.0 °C" in second.message


def test_a_real_card_that_its_tool_shows_hot_is_held(
    store: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    """All the way from the sensor of a simulated device, by the table of ``axcl-smi``, to the hold."""
    simulated = SimOptions(state=tmp_path / "sim")
    tool = write_script(tmp_path / "bin", simulated)
    axcl = settings.axcl.model_copy(update={"smi": tool, "smi_timeout_s": 30.0})
    real = settings.model_copy(update={"axcl": axcl, "data_dir": tmp_path / "data"})
    info = CardInfo("axcl-0", "AX650N", 0, bus_id(0), 7040 << 20, "V3.10.2", is_virtual=False)
    monitor = Monitor(store, real, cards=lambda _: [info])
    CardState.open(simulated.state).order(fault=Fault.HOT, hot_c=86.0)
    monitor.poll()
    told = board.decode(board.Telemetry, store.get(keys.telemetry("axcl-0")))
    hold = board.decode(board.Hold, store.get(keys.hold("axcl-0")))
    assert told is not None
    assert told.temperature_c == pytest.approx(86, abs=1)
    assert told.memory_total_bytes == 7040 << 20
    assert hold is not None
    assert hold.reason == "thermal"


def test_the_third_poll_without_a_reading_holds(
    monitor: Monitor, sensor: Sensor, held: Callable[[], str | None]
) -> None:
    told = []
    for sensor.temperature_c in (30.0, None, None, None, 30.0):
        monitor.poll()
        told.append(held())
    assert told == [None, None, None, "telemetry", None]


def test_a_card_that_was_never_read_is_held(
    monitor: Monitor, sensor: Sensor, held: Callable[[], str | None]
) -> None:
    sensor.temperature_c = None
    monitor.poll()
    assert held() == "telemetry"


def test_a_loading_model_excuses_missing_readings(
    monitor: Monitor, sensor: Sensor, store: redis.Redis, held: Callable[[], str | None]
) -> None:
    monitor.poll()
    sensor.temperature_c = None
    for _ in range(10):
        beat(store, loading="qwen3-4b")
        monitor.poll()
    assert held() is None
    store.delete(keys.heartbeat(CARD))
    for _ in range(3):
        monitor.poll()
    assert held() == "telemetry"


def test_a_new_monitor_goes_on_with_the_old_ones_hold(
    monitor: Monitor, sensor: Sensor, store: redis.Redis, settings: Settings, held: Callable[[], str | None]
) -> None:
    sensor.temperature_c = 85.0
    monitor.poll()
    sensor.temperature_c = 75.0
    Monitor(store, settings, read=sensor.read).poll()
    assert held() == "thermal"


def test_a_reading_that_fails_is_a_missing_one(
    store: redis.Redis, settings: Settings, held: Callable[[], str | None]
) -> None:
    def read(settings: Settings, info: CardInfo) -> Reading:
        raise CardLost("no answer")

    Monitor(store, settings, read=read).poll()
    assert held() == "telemetry"
    told = board.decode(board.Telemetry, store.get(keys.telemetry(CARD)))
    assert told is not None
    assert told.temperature_c is None


def test_one_poll_takes_one_reading_of_each_card(
    monitor: Monitor, sensor: Sensor, settings: Settings
) -> None:
    monitor.poll()
    monitor.poll()
    assert sensor.looks == [info.id for info in card_ids(settings)] * 2


def test_a_call_past_its_limit_is_told_once(
    monitor: Monitor, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    now_ms = int(time.time() * 1000)
    with caplog.at_level(logging.ERROR, "hearth.monitor"):
        beat(store, job="job_1", call_since_ms=now_ms - 1000, call_limit_s=5.0)
        monitor.poll()
        assert not caplog.records
        beat(store, job="job_1", call_since_ms=now_ms - 9000, call_limit_s=5.0)
        monitor.poll()
        monitor.poll()
    (record,) = caplog.records
    assert "job_1 has been in one call for 9 s, the limit is 5 s" in record.getMessage()


def test_an_absent_redis_is_no_error(settings: Settings, tmp_path: Path) -> None:
    away = SecretStr(f"unix://{tmp_path}/none.sock?db=0")
    with connect(settings.model_copy(update={"redis_url": away})) as client:
        lost = Monitor(client, settings)
        lost.poll()
        lost.sweep()


def test_the_catalog_is_published_at_once_and_after_a_change_has_come_to_rest(
    store: redis.Redis, settings: Settings
) -> None:
    quiet = settings.model_copy(update={"demo_models": False})
    monitor = Monitor(store, quiet)

    def sweep() -> list[str]:
        monitor.sweep()
        catalog = board.decode(board.Catalog, store.get(keys.CATALOG))
        assert catalog is not None
        return [model.id for model in catalog.models]

    assert sweep() == []
    assert store.ttl(keys.CATALOG) == -1
    package = settings.packages_dir / "some-model"
    package.mkdir(parents=True)
    assert sweep() == []  # still being copied, for all anybody knows
    assert sweep() == ["some-model"]
    before = store.get(keys.CATALOG)
    assert sweep() == ["some-model"]
    assert store.get(keys.CATALOG) == before
    store.delete(keys.CATALOG)
    assert sweep() == ["some-model"]
    before = store.get(keys.CATALOG)
    (settings.data_dir / NEEDS).write_text("{}")  # a load has measured what a model takes
    sweep()
    sweep()
    assert store.get(keys.CATALOG) != before


def test_a_model_that_no_card_could_hold_says_so_in_the_catalog() -> None:
    needs = (("fits", 90 * MIB), ("does not", 91 * MIB), ("unknown", None))
    models = tuple(board.Model(name, "chat", "", 0, 0, needs_bytes=need) for name, need in needs)
    catalog = board.Catalog(0, models)
    card = CardInfo("c0", "", 0, "", 100 * MIB, "", is_virtual=False)
    told = fitting(catalog, [card], margin_mib=10)
    assert [model.problem is None for model in told.models] == [True, False, True]
    problem = told.models[1].problem
    assert problem is not None
    assert "needs 91 MiB of card memory and no card here has more than 90 MiB" in problem
    assert fitting(catalog, [replace(card, is_virtual=True)], margin_mib=10) == catalog
    assert fitting(catalog, [replace(card, memory_bytes=0)], margin_mib=0) == catalog, "nobody knows its size"
