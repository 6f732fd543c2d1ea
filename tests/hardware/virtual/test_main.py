"""The command behind ``hearth card``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import settings
from hardware.virtual.__main__ import main
from hardware.virtual.card import VirtualCard
from hardware.virtual.smi_pages import Shown, table
from hardware.virtual.state import CardState, Fault

MIB = 1 << 20


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HEARTH_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return json.loads(shown.out)


@pytest.mark.parametrize("arguments", [["--json"], ["show", "--json"], ["--json", "show"]])
def test_showing_prints_one_object(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    facts = told(capsys, *arguments)
    assert facts["id"] == "virtual-0"
    assert facts["is_virtual"]
    assert facts["temperature_c"] == pytest.approx(36, abs=1)
    assert facts["memory"] == {"total_bytes": 7040 << 20, "free_bytes": 7040 << 20}
    assert (facts["fault"], facts["owner_pid"], facts["counters"]) == ("none", None, None)


def test_text_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "virtual AX650N" in text
    assert "0.0 MiB of 7040 MiB used" in text
    assert "in a room of 24 °C" in text


def test_an_owned_card_shows_owner_and_counters(capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    with VirtualCard(data_dir / "card", settings().virtual_card) as card:
        card.allocate(10).write(b"12345")
        card.allocate(1)
        facts = told(capsys, "--json")
        assert main(["show"]) == 0
    assert facts["owner_pid"] == os.getpid()
    assert facts["counters"]["h2d_bytes"] == 5
    assert "5 bytes in 1 calls" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [fault.name.lower() for fault in Fault])
def test_every_fault_can_be_set(capsys: pytest.CaptureFixture[str], data_dir: Path, fault: str) -> None:
    assert told(capsys, "set-fault", fault, "--json")["fault"] == fault
    assert CardState.open(data_dir / "card").orders().fault is Fault[fault.upper()]


def test_faults_take_their_figures(capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    told(capsys, "set-fault", "slow", "--factor", "2.5", "--json")
    facts = told(capsys, "set-fault", "hot", "--temperature", "81", "--json")
    assert facts["temperature_c"] == pytest.approx(81, abs=1)
    orders = CardState.open(data_dir / "card").orders()
    assert (orders.slow_factor, orders.hot_c) == (2.5, 81)


def test_missing_readings_print_as_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set-fault", "blind"]) == 0
    text = capsys.readouterr().out
    assert "temperature  -- in a room" in text
    assert told(capsys, "--json")["temperature_c"] is None


def test_room_and_temperature_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    facts = told(capsys, "set", "--ambient", "30", "--temperature", "85", "--json")
    assert facts["ambient_c"] == 30
    assert facts["temperature_c"] == pytest.approx(85, abs=4)
    assert told(capsys, "set", "--ambient", "configured", "--json")["ambient_c"] == 24


@pytest.mark.parametrize(
    "arguments",
    [
        ["set-fault", "flood"],
        ["set", "--ambient", "99"],
        ["set", "--temperature", "warm"],
        ["set", "--temperature", "nan"],
        ["set-fault", "slow", "--factor", "0.5"],
        ["nonsense"],
    ],
)
def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error" in shown.err


def test_a_bad_setting_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_VIRTUAL_CARD__MEMORY_MIB", "1")
    settings.cache_clear()
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_data_directory_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    (data_dir / "file").touch()
    monkeypatch.setenv("HEARTH_DATA_DIR", str(data_dir / "file"))
    settings.cache_clear()
    assert main([]) == 1
    assert "Not a directory" in capsys.readouterr().err


def test_a_real_card_shows_what_its_tool_tells_and_can_be_told_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEARTH_CARD", "axcl")
    settings.cache_clear()
    shown = table("V3.6.5_1", [Shown(0, 48.0, 0.25, 100 * MIB, 7040 * MIB, ())])
    monkeypatch.setattr("hardware.health.smi_runner", lambda _: lambda: shown)
    assert main([]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == [
        "temperature  48.0 °C",
        "npu, cpu     25 %, 3 %",
        "memory       100.0 MiB of 7040 MiB used",
    ]
    assert main(["set-fault", "hot"]) == 2
    assert "axcl-0 is real" in capsys.readouterr().err
