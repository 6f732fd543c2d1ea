"""A simulated AXCL SDK in the test's own process: its library, and what it is told."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.groups import AxclSettings
from hardware.axcl import session
from hardware.axcl.card import AxclCard
from hardware.card import CardInfo
from hardware.virtual.abi import host
from hardware.virtual.abi.build import COMPILER, SONAME, CannotBuild, build
from hardware.virtual.abi.options import VARIABLE, Mode, SimOptions, bus_id

MIB = 1 << 20


def built(directory: Path, *, soname: str = SONAME, without: tuple[str, ...] = ()) -> Path:
    """The library; a test without gcc fails with the line that installs it."""
    try:
        return build(directory, soname=soname, without=without)
    except CannotBuild as error:
        pytest.fail(f"{COMPILER}: {error}")


def is_simulated(library: Path) -> bool:
    """Whether it is ours: tests that destroy ask first."""
    return hasattr(ctypes.CDLL(str(library)), "hearth_axclsim")


@contextmanager
def simulated(options: SimOptions) -> Iterator[SimOptions]:
    """From here on a library opened in this process, or in one it starts, is told ``options``."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = options.encode()
    _begin_anew()
    try:
        yield options
    finally:
        _begin_anew()
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _begin_anew() -> None:
    """As in a fresh process: nothing is open, neither in the library nor in the binding."""
    host.restart()
    session._open.clear()
    session._now_speaks(None)


def strict(place: Path, **options: Any) -> SimOptions:
    """What tests use unless they ask for something else."""
    return SimOptions(place / "devices", **{"mode": Mode.STRICT, **options})


def info(index: int = 0, memory_mib: int = 7040) -> CardInfo:
    return CardInfo(
        id=f"axcl-{index}",
        name="AX650N",
        index=index,
        bus_id=bus_id(index),
        memory_bytes=memory_mib * MIB,
        firmware="",
        is_virtual=False,
    )


def open_card(
    library: Path, place: Path, *, index: int = 0, memory_mib: int = 7040, **options: Any
) -> AxclCard:
    """The card at ``index``, with no wait for one that is not there."""
    settings = AxclSettings(**{"library": library, "wait_s": 0, **options})
    return AxclCard(place / "card", settings, info(index, memory_mib))
