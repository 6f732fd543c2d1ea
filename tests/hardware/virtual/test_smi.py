"""The stand-in for ``axcl-smi``, run in this process: what it does beside printing tables."""

from __future__ import annotations

import fcntl
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.smi.text import read_info, read_summary
from hardware.virtual import smi
from hardware.virtual.abi.options import SimOptions
from hardware.virtual.state import CardState, Fault

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def options(tmp_path: Path) -> SimOptions:
    return SimOptions(state=tmp_path / "sim", devices=2)


@pytest.fixture
def run(options: SimOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("reboot", answer="y")``: exit status and output."""

    def ran(*arguments: str, answer: str = "", sdk: str = options.sdk, **changes: object) -> tuple[int, str]:
        told = SimOptions(state=options.state, devices=2, sdk=sdk, **changes)  # type: ignore[arg-type]  # by name
        monkeypatch.setenv("AXCLSIM", told.encode())
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        status = smi.main(arguments)
        return status, capsys.readouterr().out

    return ran


def test_a_reboot_asks_first(run: Run, options: SimOptions) -> None:
    state = CardState.open(options.state)
    state.order(fault=Fault.LOST)
    for answer in ("n\n", ""):
        assert "success" not in run("reboot", "-d", "0", answer=answer)[1]
    assert state.orders().fault is Fault.LOST
    told = run("reboot", "-d", "0", answer="y\n")
    assert told == (0, "Do you want to reboot device 0 ? (y/n): reboot device 1 success\n")
    assert state.orders().fault is Fault.NONE
    state.order(failing_reboots=1)
    assert "reboot device 1 fail" in run("reboot", "-d", "0", answer="y\n")[1]


def test_a_lost_card_has_no_row_and_a_blind_one_no_temperature(run: Run, options: SimOptions) -> None:
    state = CardState.open(options.state)
    state.order(fault=Fault.BLIND)
    card, other = read_summary(run()[1]).cards
    assert (card.temperature_c, card.npu_percent) == (None, None)
    assert other.temperature_c is not None
    state.order(fault=Fault.LOST)
    assert [card.index for card in read_summary(run()[1]).cards] == [1]
    assert run("info", "--temp", "-d", "0") == (1, "active device 1 fail, ret = 0x80300181\n")


def test_a_card_that_hangs_hangs_the_tool(
    run: Run, options: SimOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hung(Exception):
        pass

    def hang() -> None:
        raise Hung

    monkeypatch.setattr(smi, "_hang", hang)
    CardState.open(options.state, 1).order(fault=Fault.HANG)
    for arguments in ((), ("info", "--temp", "-d", "1")):
        with pytest.raises(Hung):
            run(*arguments)
    assert read_info(run("info", "--temp", "-d", "0")[1])


@pytest.mark.parametrize(
    ("sdk", "device", "ids"),
    [("V3.10.2_1", "1", [2]), ("V2.26.0_1", "0", [1]), ("V2.25.0_1", "2", [2]), ("V2.18.0_1", "0", [1, 2])],
)
def test_devices_are_counted_or_named_by_their_bus_as_the_version_has_it(
    run: Run, sdk: str, device: str, ids: list[int]
) -> None:
    _, text = run("info", "--temp", "-d", device, sdk=sdk)
    assert [told.device_id for told in read_info(text)] == ids


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        ((), {"has_driver": False}, "axcl init fail, ret = 0x8030010b"),
        (("info", "--temp", "-d", "2"), {}, "device index 2 is out of connected devices number 2"),
        (("info", "--heat"), {}, "usage: axcl-smi info"),
        (("reboot",), {"sdk": "V2.18.0_1"}, "usage:"),
        (("dance",), {}, "usage:"),
        (("info", "--temp", "-d", "x"), {}, "-d wants a number"),
        (("set", "-f", "1", "-d", "0"), {}, "usage: axcl-smi set"),
    ],
)
def test_what_it_will_not_do_it_says(
    run: Run, arguments: tuple[str, ...], changes: dict[str, str], told: str
) -> None:
    status, text = run(*arguments, **changes)
    assert status == 1
    assert told in text


def test_two_at_once_are_one_too_many(run: Run, options: SimOptions) -> None:
    options.state.mkdir(parents=True)
    with (options.state / "axcl-smi.running").open("w") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        assert run() == (1, "axcl-smi is already running, please try later.\n")


def test_what_else_it_prints(run: Run, tmp_path: Path) -> None:
    assert run("-v")[1].startswith("AXCL-SMI V3.10.2_20251215140224 BUILD: ")
    assert run("set", "-f", "1200000", "-d", "0")[1] == "set cpu frequency 1200000 to device 1 succeed.\n"
    assert "remain=7208960KB(7040MB + 0KB)" in run("sh", "cat", "/proc/ax_proc/mem_cmm_info", "-d", "0")[1]
    assert "ax_venc V3.10.2" in run("proc", "--venc", "-d", "0")[1]
    assert "CMM_USE_INFO" in run("proc", "--cmm")[1]
    told = run("log", "-d", "0", "-o", str(tmp_path))[1]
    (path,) = tmp_path.glob("dev1_log_*.tar.gz")
    assert f"log dump finished: {path}" in told
    assert subprocess.run(["tar", "tzf", path], check=True, capture_output=True).stdout == b"log/kernel.log\n"


def test_a_process_that_holds_memory_is_listed(run: Run, options: SimOptions) -> None:
    CardState.open(options.state).hold(3 << 20, 1 << 30)
    text = run(sdk="V2.18.0_1")[1]
    assert text.startswith("i 0 = ")
    (process,) = read_summary(text).processes
    assert process.npu_bytes == 3 << 20
    assert "python" in process.name
    assert text.endswith("-+\n")


@pytest.mark.parametrize("variable", ["AXCLSIM", "AXCLSMI"])
def test_a_variable_that_says_nothing_sensible_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, '{"colour": "red"}')
    assert smi.main([]) == 2
    assert variable in capsys.readouterr().err
