from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings, read_settings
from hardware.card import CardInfo, CardMemory
from hardware.choose import card_ids, open_card
from hardware.errors import CardLost
from hardware.health import Reading, read_health
from hardware.virtual.state import CardState, Fault
from tests.hardware.clock import FakeClock

MIB = 1 << 20


@pytest.fixture
def configuration(tmp_path: Path) -> Settings:
    return read_settings(data_dir=tmp_path, virtual_card={"memory_mib": 64, "ambient_c": 20.0})


@pytest.fixture
def info(configuration: Settings) -> CardInfo:
    (only,) = card_ids(configuration)
    return only


def test_a_card_nobody_uses_can_be_read(configuration: Settings, info: CardInfo, clock: FakeClock) -> None:
    reading = read_health(configuration, info, clock=clock)
    assert reading.read_at_ms == int(clock.wall() * 1000)
    assert reading.temperature_c == pytest.approx(32, abs=1)
    assert reading.memory == CardMemory(64 * MIB, 64 * MIB)
    assert (reading.npu_percent, reading.cpu_percent) == (0, 2)


def test_readings_are_noisy_by_at_most_one_degree(
    configuration: Settings, info: CardInfo, clock: FakeClock
) -> None:
    shown = [read_health(configuration, info, clock=clock).temperature_c or 0.0 for _ in range(200)]
    assert 31 <= min(shown) < 31.5
    assert 32.5 < max(shown) <= 33


def test_the_owners_memory_shows(configuration: Settings, info: CardInfo) -> None:
    with open_card(configuration) as card:
        card.allocate(MIB)
        assert read_health(configuration, info).memory == card.memory()
        assert card.info == info
    assert read_health(configuration, info).memory == CardMemory(64 * MIB, 64 * MIB)


@pytest.mark.parametrize("fault", [Fault.BLIND, Fault.LOST])
def test_missing_readings_are_none(
    configuration: Settings, info: CardInfo, clock: FakeClock, fault: Fault
) -> None:
    CardState.open(configuration.card_state_dir).order(fault=fault)
    assert read_health(configuration, info, clock=clock) == Reading(int(clock.wall() * 1000))


def test_a_hot_card_shows_it(configuration: Settings, info: CardInfo) -> None:
    CardState.open(configuration.card_state_dir).order(fault=Fault.HOT, hot_c=85.0)
    assert read_health(configuration, info).temperature_c == pytest.approx(85, abs=1)


def test_a_card_lost_to_its_owner_cannot_be_read_until_the_owner_has_left(
    configuration: Settings, info: CardInfo
) -> None:
    state = CardState.open(configuration.card_state_dir)
    card = open_card(configuration)
    state.order(fault=Fault.LOST)
    with pytest.raises(CardLost):
        card.memory()
    state.order(fault=Fault.NONE)
    assert read_health(configuration, info).temperature_c is None
    card.close()
    assert read_health(configuration, info).temperature_c is not None


def test_the_room_can_be_changed(configuration: Settings, info: CardInfo, clock: FakeClock) -> None:
    CardState.open(configuration.card_state_dir).order(ambient_c=35.0)
    assert read_health(configuration, info, clock=clock).temperature_c == pytest.approx(47, abs=1)
