"""Which card is used: the one that is named, a real one where there are signs of it, else the virtual one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from config.groups import AxclSettings
from config.settings import Settings
from hardware import choose
from hardware.choose import card_ids, open_card, pci_cards, wanted
from hardware.errors import CardLost
from hardware.virtual.card import VirtualCard
from tests import axclsim
from tests.hardware import fake_axengine


@pytest.fixture
def pci(tmp_path: Path) -> Path:
    """A machine with a disk controller and two AX650N."""
    for name, vendor, device in (
        ("0000:03:00.0", "0x1f4b", "0x0650"),
        ("0001:01:00.0", "0x1f4b", "0x0650"),
        ("0000:02:00.0", "0x1234", "0x0650"),
        ("0000:04:00.0", "0x1f4b", "0x9999"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "device").write_text(f"{device}\n")
    return tmp_path


def told(tmp_path: Path, card: str = "auto", library: Path | None = None) -> Settings:
    return Settings(card=card, data_dir=tmp_path / "data", axcl=AxclSettings(library=library, wait_s=0))


def test_cards_are_found_on_the_bus(pci: Path, tmp_path: Path) -> None:
    assert pci_cards(pci) == ["0000:03:00.0", "0001:01:00.0"]
    assert pci_cards(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("virtual", ("virtual", 0)),
        ("axcl", ("axcl", 0)),
        ("axcl:1", ("axcl", 1)),
        ("axengine:2", ("axengine", 2)),
        ("auto", ("axcl", 0)),
    ],
)
def test_a_name_wins_over_signs(name: str, kind: tuple[str, int], pci: Path, tmp_path: Path) -> None:
    assert wanted(told(tmp_path, name), pci, tmp_path / "node") == kind


def test_each_sign_of_a_card_will_do(pci: Path, tmp_path: Path) -> None:
    empty, node = tmp_path / "empty", tmp_path / "node"
    empty.mkdir()
    assert wanted(told(tmp_path), empty, node) == ("virtual", 0)
    assert wanted(told(tmp_path, library=tmp_path / "x.so"), empty, node) == ("axcl", 0)
    node.touch()
    assert wanted(told(tmp_path), empty, node) == ("axcl", 0)


def test_the_second_card_is_told_by_its_place_on_the_bus(
    pci: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose.axcl_info, "__defaults__", (pci,))
    (info,) = card_ids(told(tmp_path, "axcl:1"))
    assert (info.id, info.bus_id, info.is_virtual) == ("axcl-1", "0001:01:00.0", False)


def test_without_a_card_the_virtual_one_is_used_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_card(told(tmp_path)) as card:
        assert isinstance(card, VirtualCard)
    assert "no card was found" in caplog.text
    caplog.clear()
    with open_card(told(tmp_path, "virtual")), caplog.at_level(logging.WARNING):
        assert caplog.text == ""


@pytest.mark.parametrize("name", ["auto", "axcl"])
def test_a_real_card_is_opened(name: str, axcl_library: Path, tmp_path: Path) -> None:
    settings = told(tmp_path, name, axcl_library)
    with axclsim.simulated(axclsim.strict(tmp_path)), open_card(settings) as card:
        (before,) = card_ids(settings)
        assert (card.info.id, card.info.bus_id, card.info.memory_bytes) == (before.id, "unknown", 7040 << 20)
        assert "V3.10.2" in card.info.firmware


@pytest.mark.parametrize(
    ("sim", "words"), [({"has_driver": False}, "0x8030010b"), ({"devices": 0}, "0x80300181")]
)
def test_a_real_card_that_is_broken_is_an_error_and_never_a_virtual_one(
    sim: dict[str, object], words: str, axcl_library: Path, tmp_path: Path
) -> None:
    settings = told(tmp_path, "auto", axcl_library)
    with axclsim.simulated(axclsim.strict(tmp_path, **sim)), pytest.raises(CardLost, match=words):
        open_card(settings)


def test_a_card_on_the_bus_without_its_software_is_an_error(
    pci: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose.wanted, "__defaults__", (pci, tmp_path / "node"))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(CardLost, match="install the vendor's axcl package"):
        open_card(told(tmp_path))


def test_an_ax650n_that_runs_hearth_itself_needs_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hardware.axengine.is_on_board", lambda: True)
    with open_card(told(tmp_path)) as card:
        assert card.info.is_virtual
    assert "HEARTH_AXENGINE_WHEEL" in caplog.text
    fake_axengine.install(monkeypatch)
    with open_card(told(tmp_path)) as card:
        assert card.info.id == "axengine-0"
