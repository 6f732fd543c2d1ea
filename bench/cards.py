"""Cards for benchmarks, each with a meter: counters, and the time that is the card's and not the host's."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.groups import AxclSettings, VirtualCardSettings
from config.settings import settings
from hardware.card import Card, CardInfo, Counters
from hardware.virtual.card import VirtualCard

CARDS = ("virtual", "axcl")
TIMINGS = ("none", "pi5")
MIB = 1 << 20

_COUNTED = tuple(name for name in Counters.__slots__ if name != "busy_s")

Meter = Callable[[], Counters]
"""Counters as they stand. ``busy_s`` of a simulated library is all the time inside its functions."""


@contextmanager
def open_card(kind: str, timing: Any, place: Path) -> Iterator[tuple[Card, Meter]]:
    """A card of its own in the empty directory ``place``."""
    if kind == "virtual":
        with VirtualCard(place / "card", VirtualCardSettings(timing=timing)) as card:
            yield card, card.counters.copy
        return
    from hardware.axcl.card import AxclCard
    from hardware.virtual.abi.options import VARIABLE, Mode, SimOptions, bus_id

    library = settings().axcl.library or _built(place)
    # Memory that is not dirty takes none of this machine's as long as nobody writes to it.
    told = SimOptions(place / "devices", mode=Mode.STRICT, timing=timing, is_dirty=False)
    before, os.environ[VARIABLE] = os.environ.get(VARIABLE), told.encode()
    info = CardInfo("axcl-0", "AX650N", 0, bus_id(0), 7040 * MIB, "", is_virtual=False)
    try:
        with AxclCard(place / "card", AxclSettings(library=library, wait_s=0), info) as card:
            yield card, _meter(card)
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _built(place: Path) -> Path:
    from hardware.virtual.abi.build import CannotBuild, build

    try:
        return build(place / "library")
    except CannotBuild as error:
        sys.exit(str(error))


def _meter(card: Any) -> Meter:
    """The library's own figures where it is simulated, else those of the card."""
    copied: Meter = card.counters.copy
    if not card.library.is_simulated:
        return copied
    from hardware.virtual.abi import structs
    from hardware.virtual.abi.options import device_id

    told, device = structs.Counters(), device_id(0)
    count = ctypes.CDLL(str(card.library.path)).hearth_axclsim_counters

    def meter() -> Counters:
        count(device, ctypes.byref(told))
        nanoseconds = card.functions.hearth_axclsim_ns()
        counted = {name: getattr(told, name) for name in _COUNTED}
        return Counters(**counted, busy_s=nanoseconds / 1e9)

    return meter
