"""Every form of ``axcl-smi``'s output that was seen, and then any."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.card import CardMemory
from hardware.smi.text import Info, Summary, complaint, read_info, read_summary
from hardware.virtual.abi.options import bus_id
from hardware.virtual.smi_pages import Shown, cmm_info, info, table

MIB, KIB = 1 << 20, 1 << 10

SEEN = """\
+------------------------------------------------------------------------------------------------+
| AXCL-SMI  V3.6.4_20250805020145                                  Driver  V3.6.4_20250805020145 |
+-----------------------------------------+--------------+---------------------------------------+
| Card  Name                     Firmware | Bus-Id       |                          Memory-Usage |
| Fan   Temp                Pwr:Usage/Cap | CPU      NPU |                             CMM-Usage |
|=========================================+==============+=======================================|
|    0  AX650N                     V3.6.4 | 0001:01:00.0 |                149 MiB /      945 MiB |
|   --   41C                      -- / -- | 1%        0% |                 18 MiB /     7040 MiB |
+-----------------------------------------+--------------+---------------------------------------+

+------------------------------------------------------------------------------------------------+
| Processes:                                                                                     |
| Card      PID  Process Name                                                   NPU Memory Usage |
|================================================================================================|
|    0   147835  /home/axera/samples/qwen2.5-1.5b-ctx/main_axcl_aarch64               1990172 KiB |
+------------------------------------------------------------------------------------------------+
"""

REFLOWED = """\
+------------------------------------------------------------------------------------------------+
| AXCL-SMI V3.6.5_20250908154509 Driver V3.6.5_20250908154509 |
+-----------------------------------------+--------------+---------------------------------------+
| Card Name Firmware | Bus-Id | Memory-Usage |
| Fan Temp Pwr:Usage/Cap | CPU NPU | CMM-Usage |
|=========================================+==============+=======================================|
| 0 AX650N V3.6.5 | 0001:01:00.0 | 149 MiB / 945 MiB |
| -- 41C -- / -- | 1% 0% | 18 MiB / 7040 MiB |
+-----------------------------------------+--------------+---------------------------------------+
"""


def card_of(text: str) -> tuple[object, ...]:
    (card,) = read_summary(text).cards
    return (
        card.index,
        card.name,
        card.bus_id,
        card.temperature_c,
        card.cpu_percent,
        card.npu_percent,
        card.memory,
    )


WELL = (0, "AX650N", "0001:01:00.0", 41.0, 1.0, 0.0, CardMemory(7040 * MIB, 7022 * MIB))


def test_the_table_as_it_was_shown() -> None:
    assert card_of(SEEN) == WELL
    summary = read_summary(SEEN)
    assert summary.version == summary.driver == "V3.6.4_20250805020145"
    assert summary.cards[0].firmware == "V3.6.4"
    assert summary.cards[0].system_memory == CardMemory(945 * MIB, 796 * MIB)
    (process,) = summary.processes
    assert (process.card, process.pid, process.npu_bytes) == (0, 147835, 1990172 * KIB)
    assert process.name == "/home/axera/samples/qwen2.5-1.5b-ctx/main_axcl_aarch64"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(REFLOWED, id="the re-flowed table of a web page"),
        pytest.param(SEEN.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(re.sub(r"\s+", " ", SEEN), id="everything on one line"),
        pytest.param("i 0 = 748  pid = 748\n" + SEEN, id="the debug line of V2.18"),
        pytest.param("[08-11 16:01:16:933][W][smi]: slow\n" + SEEN, id="a line of the log before it"),
        pytest.param(SEEN[: SEEN.index("|    0   147835")], id="no process, and so no last border"),
        pytest.param(SEEN.replace("1%        0%", "1%%      0%%"), id="doubled percent signs"),
        pytest.param(SEEN.replace("AX650N  ", "AX650N A"), id="never mind a longer name"),
    ],
)
def test_the_same_card_in_other_forms(text: str) -> None:
    assert card_of(text)[2:] == WELL[2:]


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("|   --   --                       -- / -- |", 3),
        ("| --        0% |", 4),
        ("| 1%        -- |", 5),
        ("|                 -- / -- |", 6),
        ("|                  0 MiB /        0 MiB |", 6),
    ],
)
def test_what_is_not_told_is_none_and_never_zero(shown: str, missing: int) -> None:
    place = {
        3: "|   --   41C                      -- / -- |",
        4: "| 1%        0% |",
        5: "| 1%        0% |",
        6: "|                 18 MiB /     7040 MiB |",
    }[missing]
    text = SEEN.replace(place, shown)
    assert text != SEEN
    assert card_of(text) == (*WELL[:missing], None, *WELL[missing + 1 :])


def test_a_card_that_cannot_be_opened_has_no_row() -> None:
    lines = SEEN.splitlines(keepends=True)
    assert read_summary("".join(lines[:6] + lines[9:])).cards == ()


def test_a_card_is_found_by_its_bus_and_by_number_only_when_that_is_not_known() -> None:
    summary = read_summary(SEEN)
    assert summary.card("0001:01:00.0", 7) is summary.cards[0]
    assert summary.card("0001:02:00.0", 0) is None
    assert summary.card("", 0) is summary.cards[0]
    assert summary.card("", 1) is None


INFO = """\
Device ID           : 1 (0x1)
temperature         : 41000

Device ID           : 1 (0x1)
CMM Total           :  7208960 KiB
CMM Used            :    18876 KiB
CMM Remain          :  7190084 kiB

Device ID           : 129 (0x81)
engine version      : 2.12.0s
vnpu-Non            : 81%%

Device ID           : 1 (0x1)
CPU Usage (%)       : 2.40%
CPU                 : 1.1% usr  1.1% sys  0.0% nic 97.6% idle  0.0% io  0.0% irq  0.0% sirq
Load average        : 3.03 3.06 3.02 1/153 890

Device ID           : 1 (0x1)
engine version      : 2.12.0s
NPU Usage (%)       : --

Device ID           : 1 (0x1)
temperature         : --

"""


def test_info_as_it_was_shown() -> None:
    assert read_info(INFO) == (
        Info(1, temperature_c=41.0),
        Info(1, memory=CardMemory(7208960 * KIB, 7190084 * KIB)),
        Info(129, npu_percent=81.0, engine_version="2.12.0s"),
        Info(1, cpu_percent=2.4),
        Info(1, engine_version="2.12.0s"),
        Info(1),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "[08-11 16:01:16:933][E][smi][device_manager][  20]: axcl init fail, ret = 0x8030010b",
            "axcl init fail, ret = 0x8030010b",
        ),
        ("axcl-smi is already running, please try later.", "axcl-smi is already running, please try later."),
        ("active device 1 fail, ret = 0x80300181", "active device 1 fail, ret = 0x80300181"),
        (
            "device index 3 is out of connected devices number 1",
            "device index 3 is out of connected devices number 1",
        ),
        (SEEN, None),
        ("", None),
    ],
)
def test_what_it_complains_of(line: str, told: str | None) -> None:
    assert complaint(line) == told


loads = st.one_of(st.none(), st.floats(0, 1))
devices = st.builds(
    Shown,
    index=st.integers(0, 200),
    temperature_c=st.one_of(st.none(), st.floats(-40, 125)),
    npu_load=loads,
    used_bytes=st.integers(0, 3000 * MIB),
    total_bytes=st.integers(3000 * MIB, 16000 * MIB),
    holders=st.lists(st.tuples(st.integers(1, 4_194_304), st.integers(0, 7040 * MIB)), max_size=3).map(tuple),
)
versions = st.sampled_from(
    ["V2.18.0_20241101", "V2.26.1_20250117", "V3.6.5_20250908154509", "V3.10.2_20251215140224"]
)


@given(versions, st.lists(devices, min_size=1, max_size=4, unique_by=lambda each: each.index))
def test_whatever_a_table_shows_is_read(sdk: str, shown: list[Shown]) -> None:
    summary = read_summary(table(sdk, shown))
    assert (summary.version, summary.driver) == (sdk, sdk)
    assert [card.index for card in summary.cards] == [device.index for device in shown]
    for card, device in zip(summary.cards, shown, strict=True):
        assert card.bus_id == bus_id(device.index)
        assert card.temperature_c == (None if device.temperature_c is None else round(device.temperature_c))
        assert card.npu_percent == (None if device.npu_load is None else int(100 * device.npu_load))
        assert card.memory is not None
        assert card.memory.total_bytes == device.total_bytes // MIB * MIB
        assert 0 <= card.memory.total_bytes - card.memory.free_bytes <= device.used_bytes
    held = [(device.index, pid, size // KIB * KIB) for device in shown for pid, size in device.holders]
    assert [(each.card, each.pid, each.npu_bytes) for each in summary.processes] == held


@given(devices)
def test_whatever_info_shows_is_read(device: Shown) -> None:
    (temp,) = read_info(info("temp", device))
    assert (temp.temperature_c is None) == (device.temperature_c is None)
    if device.temperature_c is not None:
        assert temp.temperature_c == pytest.approx(device.temperature_c, abs=0.0006)
    (cmm,) = read_info(info("cmm", device))
    assert cmm.memory is not None
    assert cmm.memory.total_bytes == device.total_bytes // KIB * KIB
    (npu,) = read_info(info("npu", device))
    assert npu.npu_percent == (int(100 * device.npu_load) if device.npu_load else None)
    assert temp.device_id == cmm.device_id == npu.device_id == device.device_id


@given(st.text(st.sampled_from("|+-= 0123456789ACMKiB%/:.\n"), max_size=400))
def test_noise_is_no_error(text: str) -> None:
    assert isinstance(read_summary(text), Summary)
    read_info(text)
    complaint(text)


@given(st.integers(0, len(SEEN)))
def test_a_table_that_is_cut_short_shows_a_card_whole_or_not_at_all(length: int) -> None:
    cards = read_summary(SEEN[:length]).cards
    assert cards in ((), read_summary(SEEN).cards)


def test_the_stand_in_prints_the_table_as_it_was_shown() -> None:
    device = Shown(0, 41.2, 0.0, 18 * MIB, 7040 * MIB, ((147835, 1990172 * KIB),))
    name = "/home/axera/samples/qwen2.5-1.5b-ctx/main_axcl_aarch64"
    printed = table("V3.6.4_20250805020145", [device], {147835: name})
    # The page that shows the table has one space too many in the only row of its processes.
    assert printed.replace("2%  ", "1%  ") == SEEN.replace(
        "aarch64               1990172", "aarch64              1990172"
    )


def test_free_memory_is_found_as_others_find_it() -> None:
    text = cmm_info("V3.6.3", Shown(0, 40.0, 0.0, 18876 * KIB, 7208960 * KIB, ((592, 76 * KIB),)))
    found = re.search(r"remain=(\d+)KB\((\d+)MB \+ (\d+)KB\)", text)
    assert found is not None
    assert [int(part) for part in found.groups()] == [7190084, 7021, 580]
    assert 'name="npu_m_pid592"' in text
