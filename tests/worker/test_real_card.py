"""worker-npu on a card behind the vendor's library, which here is the simulated one: whole processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware.virtual.abi.options import VARIABLE, Mode, Quirk, SimOptions
from hardware.virtual.state import CardState
from tasks import board, keys
from tasks.app import configure
from tests.worker.processes import BOOT_PATIENCE_S, House, Service, counted, house, until

CARD = "axcl-0"
CALL_S = 0.2
"""What each copy takes: the counting models read a byte for each token, so they are mostly in a call."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as built:
        configure(built.settings)
        yield built


@pytest.fixture
def told(tmp_path: Path) -> SimOptions:
    return SimOptions(tmp_path / "devices", mode=Mode.STRICT, memory_mib=256, is_dirty=False)


def start(home: House, library: Path, told: SimOptions, **more: str) -> Service:
    """The worker, its child with the card open and the card said to be well."""
    reading = board.Telemetry(read_at_ms=0, temperature_c=30.0)
    home.store.set(keys.telemetry(CARD), board.encode(reading))
    npu = home.start(
        "npu",
        "-m",
        "tests.worker.fake_npu",
        HEARTH_CARD="axcl",
        HEARTH_AXCL__LIBRARY=str(library),
        HEARTH_MODELS__MARGIN_MIB="0",
        **{VARIABLE: told.encode(), **more},
    )
    until(lambda: home.store.exists(keys.heartbeat(CARD)), lambda: npu.log, BOOT_PATIENCE_S)
    return npu


def is_given_back(told: SimOptions) -> bool:
    state = CardState.open(told.state)
    try:
        return not state.is_owned() and state.holders() == []
    finally:
        state.close()


def boots_of(told: SimOptions) -> int:
    state = CardState.open(told.state)
    try:
        return state.orders().boots
    finally:
        state.close()


async def test_a_job_is_answered_and_the_card_is_closed_in_order(
    home: House, told: SimOptions, axcl_library: Path
) -> None:
    npu = start(home, axcl_library, told)
    job = await home.submit()
    assert home.until_ended(job) == "succeeded"
    assert home.text(job) == counted(5)
    assert not is_given_back(told)
    assert npu.stop() == 0
    assert is_given_back(told)
    assert f"card {CARD} closed" in npu.log
    assert "VIRTUAL" not in npu.log


async def test_a_child_whose_parent_is_killed_ends_its_call_and_gives_the_card_back(
    home: House, told: SimOptions, axcl_library: Path
) -> None:
    """Prefork would have it killed with its parent, in the middle of the call."""
    slow = SimOptions(told.state, mode=told.mode, memory_mib=256, is_dirty=False, call_s=CALL_S)
    npu = start(home, axcl_library, slow)
    job = await home.submit(tokens=500)
    home.until_said(job, 2)
    (child,) = [pid for pid in npu.children() if _has_open(pid, axcl_library)]
    npu.kill()
    until(lambda: is_given_back(told), "the card to be given back")
    until(lambda: not _has_open(child, axcl_library), "the child to leave")
    assert (home.field(job, "state"), home.field(job, "strikes")) == ("queued", "0")
    start(home, axcl_library, told)
    assert home.until_ended(await home.submit()) == "succeeded"


def _has_open(pid: int, library: Path) -> bool:
    try:
        return str(library) in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


async def test_a_signal_to_the_child_waits_for_its_call(
    home: House, told: SimOptions, axcl_library: Path
) -> None:
    slow = SimOptions(told.state, mode=told.mode, memory_mib=256, is_dirty=False, call_s=CALL_S)
    npu = start(home, axcl_library, slow)
    job = await home.submit(tokens=10)
    home.until_said(job, 2)
    (child,) = [pid for pid in npu.children() if _has_open(pid, axcl_library)]
    os.kill(child, signal.SIGTERM)
    # Another child takes the card, and the job, where this one left both.
    assert home.until_ended(job, BOOT_PATIENCE_S) == "succeeded"
    assert home.text(job) == counted(10)
    assert home.field(job, "strikes") == "0"
    assert npu.stop() == 0
    assert is_given_back(told)


@pytest.mark.parametrize(("mix", "boots"), [("restart", 0), ("reboot", 1)])
async def test_a_picture_after_a_chat_is_drawn_by_a_fresh_process(
    home: House, told: SimOptions, axcl_library: Path, mix: str, boots: int
) -> None:
    """Some SDKs drop the card otherwise; what stands for a network from ONNX here only takes memory."""
    npu = start(home, axcl_library, told, HEARTH_AXCL__MIX=mix)
    chat = await home.submit()
    assert home.until_ended(chat) == "succeeded"
    before = npu.children()
    picture = await home.submit_picture()
    assert home.until_ended(picture, BOOT_PATIENCE_S) == "succeeded"
    assert home.field(picture, "strikes") == "0"
    assert home.drawn(picture) == 1
    assert npu.children() != before
    assert "is loaded by a fresh process" in npu.log
    assert boots_of(told) == boots
    again = await home.submit()  # the other way round nothing is in the way
    after = npu.children()
    assert home.until_ended(again) == "succeeded"
    assert npu.children() == after
    assert Quirk.ONNX_AFTER_LLM_DROPS not in told.quirks
