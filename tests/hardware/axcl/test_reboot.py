"""Booting a lost card anew: through the runtime, through the tool, and not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.groups import AxclSettings
from config.settings import CHECKOUT, Settings
from hardware.axcl.reboot import reboot
from hardware.errors import CardLost
from hardware.virtual import smi
from hardware.virtual.abi.options import SimOptions
from hardware.virtual.state import CardState, Fault
from tests import axclsim


@pytest.fixture
def told(tmp_path: Path) -> SimOptions:
    return axclsim.strict(tmp_path, devices=2)


@pytest.fixture
def state(told: SimOptions) -> CardState:
    """The second device's: what is done to the first one would not show."""
    return CardState.open(told.state, 1)


def settings_of(place: Path, library: Path, told: SimOptions, **options: Any) -> Settings:
    tool = smi.write_script(place / "bin", told)
    return Settings(
        card="axcl:1",
        data_dir=place / "data",
        axcl=AxclSettings(library=library, smi=tool, wait_s=0, **options),
    )


def without_reboot(place: Path) -> Path:
    return axclsim.built(place / "old", without=("axclrtRebootDevice",))


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.LOST, Fault.HANG])
def test_the_runtime_does_it_also_for_a_card_that_is_in_no_list(
    fault: Fault, axcl_library: Path, tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    settings = settings_of(tmp_path, axcl_library, told)
    with axclsim.simulated(told):
        # What the runtime calls it is remembered from when it was opened.
        axclsim.open_card(axcl_library, tmp_path / "data", index=1).close()
        state.order(fault=fault)
        assert reboot(settings, axclsim.info(1)) == "device 2 was booted anew by axclrtRebootDevice"
    assert (state.orders().boots, state.orders().fault) == (1, Fault.NONE)
    assert CardState.open(told.state).orders().boots == 0


def test_a_card_that_was_never_opened_is_called_by_its_bus(
    axcl_library: Path, tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    state.order(fault=Fault.LOST)
    with axclsim.simulated(told):
        assert "device 2" in reboot(settings_of(tmp_path, axcl_library, told), axclsim.info(1))
    assert state.orders().boots == 1


def test_the_tool_does_it_where_the_runtime_cannot(
    tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    settings = settings_of(tmp_path, without_reboot(tmp_path), told)
    with axclsim.simulated(told):
        assert reboot(settings, axclsim.info(1)) == "card 1 was booted anew by axcl-smi"
    assert state.orders().boots == 1


@pytest.mark.parametrize(("how", "words"), [("off", "is off"), ("api", "no axclrtRebootDevice")])
def test_what_the_settings_forbid_is_not_tried(
    how: Any, words: str, tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    settings = settings_of(tmp_path, without_reboot(tmp_path), told, reboot=how)
    with axclsim.simulated(told), pytest.raises(CardLost, match=words):
        reboot(settings, axclsim.info(1))
    assert state.orders().boots == 0


def test_a_reboot_that_fails_says_what_each_way_said_and_the_next_may_work(
    axcl_library: Path, tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    settings = settings_of(tmp_path, axcl_library, told)
    state.order(failing_reboots=2)
    with axclsim.simulated(told):
        with pytest.raises(CardLost, match=r"0x80300187.*axcl-smi"):
            reboot(settings, axclsim.info(1))  # both ways, so both failures are used up
        assert reboot(settings, axclsim.info(1))
    assert state.orders().boots == 1


def test_a_runtime_that_never_answers_does_not_keep_the_tool_from_it(
    tmp_path: Path, told: SimOptions, state: CardState
) -> None:
    stuck = tmp_path / "stuck"
    library = axclsim.built(stuck)
    source = (
        (stuck / "axcl_rt.c").read_text().replace("int32_t device) {\n", "int32_t device) {\n    pause();\n")
    )
    (stuck / "axcl_rt.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(stuck / "axcl_rt.c"), "-ldl"]
    subprocess.run(command, check=True)
    settings = settings_of(tmp_path, library, told)
    with axclsim.simulated(told):
        assert reboot(settings, axclsim.info(1), api_limit_s=3) == "card 1 was booted anew by axcl-smi"
    assert state.orders().boots == 1


def test_the_one_command_for_all_cards_does_it(
    axcl_library: Path, tmp_path: Path, told: SimOptions, state: CardState, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CARD", "axcl:1"), ("DATA_DIR", tmp_path / "data"), ("AXCL__LIBRARY", axcl_library)):
        monkeypatch.setenv(f"HEARTH_{name}", str(value))
    with axclsim.simulated(told):
        axclsim.open_card(axcl_library, tmp_path / "data", index=1).close()
        command = [sys.executable, "-m", "hardware.reboot", "axcl-1"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert state.orders().boots == 1
