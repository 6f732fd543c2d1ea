"""Which cards there are, and opening one."""

from __future__ import annotations

from config.settings import Settings
from hardware.card import Card, CardInfo
from hardware.virtual.card import VirtualCard, virtual_info


def card_ids(settings: Settings) -> list[CardInfo]:
    """The cards this machine offers, told without opening any."""
    return [virtual_info(settings.virtual_card)]


def open_card(settings: Settings) -> Card:
    """Open the card that the settings name; the process owns it until it closes it or ends.

    Raises:
        CardBusy: another process owns it; the message names its process id.
        CardLost: it is not there.
    """
    return VirtualCard(settings.card_state_dir, settings.virtual_card)
