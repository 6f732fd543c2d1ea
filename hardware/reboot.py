"""``python -m hardware.reboot CARD``: boot a card anew, in a process of its own.

It may hang with the card, and nothing of the worker or the monitor should hang with it: whoever starts it
waits without blocking and may end it. Exit status 0: the card was told to boot; 1: not, and one line why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from config.settings import Settings, SettingsError, settings
from hardware.card import CardInfo
from hardware.choose import card_ids
from hardware.errors import HardwareError
from hardware.virtual.state import CardState

LIMIT_S = 60.0
"""A reboot that has said nothing for this long hangs."""


class RebootError(Exception):
    """The card was not rebooted. One line, for people."""


def command(card_id: str) -> list[str]:
    """What to start for this card."""
    return [sys.executable, "-m", "hardware.reboot", card_id]


def reboot(configuration: Settings, info: CardInfo) -> None:
    """Boot the card anew; it takes up to a minute until it answers again. Raises RebootError."""
    if info.is_virtual:
        state = CardState.open(configuration.card_state_dir, info.index)
        try:
            if not state.reboot():
                raise RebootError(f"{info.id} refused to reboot")
        finally:
            state.close()
        return
    from hardware.axcl.reboot import reboot as reboot_axcl  # the binding is loaded by who needs it

    try:
        sys.stderr.write(f"{reboot_axcl(configuration, info)}\n")
    except HardwareError as error:
        raise RebootError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    (wanted,) = arguments if arguments is not None else sys.argv[1:]
    try:
        configuration = settings()
        info = next((each for each in card_ids(configuration) if each.id == wanted), None)
        if info is None:
            raise RebootError(f"there is no card {wanted}")
        reboot(configuration, info)
    except (RebootError, SettingsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
