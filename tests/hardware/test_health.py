from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from config.settings import Settings, read_settings
from hardware.card import CardInfo, CardMemory
from hardware.choose import card_ids, open_card
from hardware.errors import CardLost
from hardware.health import Reading, Sensors, read_health
from hardware.smi.tool import SmiError
from hardware.virtual.abi.options import SimOptions, bus_id
from hardware.virtual.smi import write_script
from hardware.virtual.smi_pages import Shown, table
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


class Tool:
    """Prints ``text``, or fails when that is an error; ``calls`` counts."""

    def __init__(self, text: str | SmiError) -> None:
        self.text = text
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if isinstance(self.text, SmiError):
            raise self.text
        return self.text


def real(index: int) -> CardInfo:
    return CardInfo(f"axcl-{index}", "AX650N", index, bus_id(index), 7040 * MIB, "V3.6.5", is_virtual=False)


def shown(*indices: int, temperature_c: float | None = 41.0) -> str:
    return table("V3.6.5_1", [Shown(index, temperature_c, 0.5, MIB, 7040 * MIB, ()) for index in indices])


@pytest.fixture
def now() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tool() -> Tool:
    return Tool(shown(0, 1))


@pytest.fixture
def sensors(tool: Tool, now: FakeClock) -> Sensors:
    return Sensors(tool, now.steady)


def test_a_real_card_is_read_from_the_tool(sensors: Sensors, configuration: Settings) -> None:
    reading = sensors.read(configuration, real(1))
    assert abs(time.time() * 1000 - reading.read_at_ms) < 60_000
    assert (reading.temperature_c, reading.npu_percent, reading.cpu_percent) == (41.0, 50.0, 5.0)
    assert reading.memory == CardMemory(7040 * MIB, 7039 * MIB)


def test_a_poll_asks_once_however_many_cards_there_are_and_whatever_comes_of_it(
    sensors: Sensors, tool: Tool, now: FakeClock, configuration: Settings
) -> None:
    for tool.text in (shown(0, 1), SmiError("axcl-smi gave no answer"), shown(1)):
        before = tool.calls
        for index in (0, 1):
            sensors.read(configuration, real(index))
        assert tool.calls == before + 1
        now.sleep(configuration.thermal.poll_s)


def test_what_was_read_in_an_earlier_poll_is_never_shown_again(
    sensors: Sensors, tool: Tool, now: FakeClock, configuration: Settings
) -> None:
    assert sensors.read(configuration, real(0)).temperature_c == 41.0
    now.sleep(configuration.thermal.poll_s)
    tool.text = SmiError("axcl-smi gave no answer")
    reading = sensors.read(configuration, real(0))
    assert (reading.temperature_c, reading.memory) == (None, None)


def test_trouble_is_told_when_it_begins_changes_and_ends(
    sensors: Sensors, tool: Tool, now: FakeClock, configuration: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    silent, other = SmiError("axcl-smi gave no answer"), shown(1)
    for tool.text in (
        shown(0),
        silent,
        silent,
        other,
        other,
        "axcl init fail, ret = 0x8030010b",
        "",
        shown(0),
    ):
        sensors.read(configuration, real(0))
        now.sleep(configuration.thermal.poll_s)
    assert [record.getMessage() for record in caplog.records] == [
        "card axcl-0 cannot be read: axcl-smi gave no answer",
        "card axcl-0 cannot be read: axcl-smi shows only 0001:02:00.0",
        "card axcl-0 cannot be read: axcl init fail, ret = 0x8030010b",
        "card axcl-0 cannot be read: axcl-smi shows no card",
        "card axcl-0 can be read",
    ]


def test_the_virtual_card_needs_no_tool(sensors: Sensors, tool: Tool, configuration: Settings) -> None:
    (info,) = card_ids(configuration)
    assert sensors.read(configuration, info).temperature_c is not None
    assert tool.calls == 0


def test_the_tool_that_is_named_is_run_and_one_that_is_not_there_is_asked_for_again(tmp_path: Path) -> None:
    place = tmp_path / "bin" / "axcl-smi"
    named = read_settings(data_dir=tmp_path, axcl={"smi": place, "smi_timeout_s": 30})
    sensors = Sensors()
    assert sensors.read(named, real(0)).temperature_c is None
    write_script(place.parent, SimOptions(state=tmp_path / "sim"))
    sensors._asked_s = float("-inf")
    assert sensors.read(named, real(0)).temperature_c == pytest.approx(36, abs=2)
