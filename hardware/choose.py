"""Which cards there are, and opening one."""

from __future__ import annotations

import logging
from pathlib import Path

from config.settings import Settings
from hardware.card import Card, CardInfo
from hardware.virtual.card import VirtualCard, virtual_info

log = logging.getLogger("hearth.card")

MIB = 1 << 20
PCI_DEVICES = Path("/sys/bus/pci/devices")
HOST_NODE = Path("/dev/axcl_host")
"""What the card's driver makes."""
_VENDOR, _DEVICE = "0x1f4b", "0x0650"
"""AXERA's AX650N on the PCIe bus. Source: lspci with an LLM-8850."""
_UNKNOWN_BUS = "unknown"


def card_ids(settings: Settings) -> list[CardInfo]:
    """The card this process is to use, told without opening it: it stands alone in the list.

    Several cards are several workers, each told its own (``HEARTH_CARD=axcl:1``).
    """
    kind, index = wanted(settings)
    if kind == "axcl":
        return [axcl_info(settings, index)]
    if kind == "axengine":
        from hardware.axengine import axengine_info

        return [axengine_info(index)]
    return [virtual_info(settings.virtual_card)]


def open_card(settings: Settings) -> Card:
    """Open the card that the settings name; the process owns it until it closes it or ends.

    A real card that is there and does not work is an error. Nothing takes its place.

    Raises:
        CardBusy: another process owns it; the message names its process id.
        CardLost: it is not there, or not well; the message says what can be done.
    """
    (info,) = card_ids(settings)
    kind, _ = wanted(settings)
    if kind == "axcl":
        from hardware.axcl.card import AxclCard  # device libraries are loaded by who opens a card

        margin_bytes = settings.models.margin_mib * MIB
        return AxclCard(settings.card_state_dir, settings.axcl, info, margin_bytes=margin_bytes)
    if kind == "axengine":
        from hardware.axengine import AxengineCard

        return AxengineCard(settings.card_state_dir, info)
    if settings.card == "auto":
        log.warning("%s", why_virtual())
    return VirtualCard(settings.card_state_dir, settings.virtual_card)


def wanted(settings: Settings, pci: Path = PCI_DEVICES, node: Path = HOST_NODE) -> tuple[str, int]:
    """The kind of card and which of its kind. ``auto`` is a real one wherever there are signs of one."""
    kind, _, index = settings.card.partition(":")
    if kind != "auto":
        return kind, int(index or 0)
    if settings.axcl.library is not None or node.exists() or pci_cards(pci):
        return "axcl", 0
    from hardware.axengine import is_on_board, is_usable

    return ("axengine", 0) if is_on_board() and is_usable() else ("virtual", 0)


def why_virtual() -> str:
    """Why ``auto`` found nothing better, in one line."""
    from hardware.axengine import is_on_board

    if is_on_board():
        return (
            "this is an AX650N, but the vendor's Python package axengine is not installed "
            "(HEARTH_AXENGINE_WHEEL): the virtual card is used instead"
        )
    return (
        "no card was found: no AX650N on the PCIe bus, no /dev/axcl_host, no HEARTH_AXCL__LIBRARY. "
        "The virtual card is used instead"
    )


def pci_cards(pci: Path = PCI_DEVICES) -> list[str]:
    """Where on the bus there are AX650N, as ``0001:01:00.0``, in the order of the buses."""
    return sorted(
        device.name
        for device in (pci.iterdir() if pci.is_dir() else ())
        if _says(device / "vendor", _VENDOR) and _says(device / "device", _DEVICE)
    )


def axcl_info(settings: Settings, index: int, pci: Path = PCI_DEVICES) -> CardInfo:
    """What can be known of a card behind PCIe before it is opened."""
    places = pci_cards(pci)
    return CardInfo(
        id=f"axcl-{index}",
        name="AX650N",
        index=index,
        bus_id=places[index] if index < len(places) else _UNKNOWN_BUS,
        memory_bytes=settings.axcl.memory_mib * MIB,
        firmware="",
        is_virtual=False,
    )


def _says(file: Path, text: str) -> bool:
    try:
        return file.read_text().strip() == text
    except OSError:
        return False
