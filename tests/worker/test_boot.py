"""What the child does to its process before it opens a card, tried in processes of the test's own."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from config.groups import VirtualCardSettings
from hardware.card import CardInfo
from hardware.virtual.card import virtual_info
from tasks import signals
from worker.boot import Stop, _survive_the_parent
from worker.link import Link

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""Python 3.12 warns of forks beside threads; the children here leave at once."""

VIRTUAL = virtual_info(VirtualCardSettings())
REAL = replace(VIRTUAL, id="axcl-0", is_virtual=False)
SET_PDEATHSIG, GET_PDEATHSIG = 1, 2


def in_a_child(act: Callable[[], bool]) -> bool:
    """Whether ``act`` was true in a forked process."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if act() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def soon(ask: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 30
    while not ask() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return ask()


@pytest.mark.parametrize(
    ("info", "dies_with_its_parent"),
    [pytest.param(VIRTUAL, signal.SIGKILL, id="virtual"), pytest.param(REAL, 0, id="real")],
)
def test_only_the_owner_of_a_virtual_card_dies_with_its_parent(
    info: CardInfo, dies_with_its_parent: int
) -> None:
    def act() -> bool:
        libc = ctypes.CDLL(None)
        libc.prctl(SET_PDEATHSIG, signal.SIGKILL)
        _survive_the_parent(info)
        now = ctypes.c_int()
        libc.prctl(GET_PDEATHSIG, ctypes.byref(now))
        return now.value == dies_with_its_parent

    assert in_a_child(act)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_to_stop_is_a_flag_that_the_running_job_sees(number: signal.Signals) -> None:
    def act() -> bool:
        stop = Stop(Link())
        stop.install()
        if stop.is_set():
            return False
        for _ in range(3):
            os.kill(os.getpid(), number)
        return soon(stop.is_set) and soon(signals.stopping.is_set)

    assert in_a_child(act)


def test_a_drain_by_the_parent_reaches_the_running_job() -> None:
    link = Link()

    def act() -> bool:
        Stop(link).install()
        link.drain()
        return soon(signals.stopping.is_set)

    assert in_a_child(act)


def test_an_orphan_is_told_to_stop() -> None:
    reader, writer = os.pipe()

    def parent() -> bool:
        if os.fork() == 0:
            stop = Stop(Link())
            stop.install()
            was_set = stop.is_set()
            os.write(writer, b"s")
            told = soon(signals.stopping.is_set)
            os.write(writer, b"y" if told and not was_set else b"n")
            os._exit(0)
        return os.read(reader, 1) == b"s"

    assert in_a_child(parent)
    assert os.read(reader, 1) == b"y"
    os.close(reader)
    os.close(writer)
