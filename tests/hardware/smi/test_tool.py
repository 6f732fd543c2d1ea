"""Running ``axcl-smi`` as it may behave: well, never ending, deaf to TERM, missing, and twice at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.smi import tool
from hardware.smi.text import read_summary
from hardware.smi.tool import Smi, SmiError, find_smi
from hardware.virtual.abi.options import SimOptions
from hardware.virtual.smi import Manners, write_script

PATIENCE_S = 30.0
"""A start of Python on a machine with other things to do."""

MakeSmi = Callable[..., Smi]


@pytest.fixture
def options(tmp_path: Path) -> SimOptions:
    return SimOptions(state=tmp_path / "sim", sdk="V3.6.5_20250908154509")


@pytest.fixture
def smi(tmp_path: Path, options: SimOptions) -> MakeSmi:
    """``smi(hangs=True)``: a tool of these manners; all of them share one lock."""

    def made(timeout_s: float = PATIENCE_S, **manners: object) -> Smi:
        program = write_script(tmp_path / "bin", options, Manners(**manners))  # type: ignore[arg-type]  # by name
        return Smi(program, tmp_path / "smi.lock", timeout_s=timeout_s)

    return made


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_table_of_a_card_that_is_well(smi: MakeSmi) -> None:
    summary = read_summary(smi().run())
    assert summary.version == "V3.6.5_20250908154509"
    (card,) = summary.cards
    assert 34 <= (card.temperature_c or 0) <= 38


def test_one_that_never_ends_is_ended_in_time_and_the_next_one_runs(smi: MakeSmi) -> None:
    began_s = time.monotonic()
    with pytest.raises(SmiError, match=r"no answer in 0\.5 s"):
        smi(timeout_s=0.5, hangs=True).run()
    assert time.monotonic() - began_s < 5
    assert read_summary(smi().run()).cards


def test_one_that_is_deaf_to_term_is_killed_after_its_grace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[int] = []
    kill = os.killpg

    def noted(group: int, number: int) -> None:
        sent.append(number)
        kill(group, number)

    monkeypatch.setattr(os, "killpg", noted)
    endless = script(tmp_path / "endless", "while :; do sleep 0.05; done")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which it inherits: deaf from its first moment
    try:
        with pytest.raises(SmiError, match="was ended"):
            Smi(endless, tmp_path / "smi.lock", timeout_s=0.5).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    quick = script(tmp_path / "quick", "echo well")
    assert Smi(quick, tmp_path / "smi.lock", timeout_s=PATIENCE_S).run() == "well\n"


def test_none_is_started_while_an_earlier_one_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even by those who know nothing of who started it: the tool itself holds the lock."""
    started, pipe, lock = tmp_path / "started", tmp_path / "pipe", tmp_path / "smi.lock"
    os.mkfifo(pipe)
    slow = script(tmp_path / "slow", f"echo x >> {started}; read line < {pipe}")
    monkeypatch.setattr(Smi, "_end", lambda self, process: self._left.append(process))  # as if it would not
    first = Smi(slow, lock, timeout_s=0.05)
    with pytest.raises(SmiError, match="no answer"):
        first.run()
    (left,) = first._left
    for one in (first, Smi(slow, lock, timeout_s=5)):
        with pytest.raises(SmiError, match=f"earlier slow .pid {left.pid}. has not ended"):
            one.run()
    pipe.write_text("go\n")
    left.communicate(timeout=PATIENCE_S)
    assert started.read_text() == "x\n"
    quick = script(tmp_path / "quick", "echo well")
    assert Smi(quick, lock, timeout_s=PATIENCE_S).run() == "well\n"


def test_one_that_was_forgotten_is_asked_to_leave_and_then_made_to(
    smi: MakeSmi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its monitor was killed, and it hangs: nobody else will end it."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append((group, number)))
    lock = tmp_path / "smi.lock"
    with smi()._locked() as descriptor:
        os.pwrite(descriptor, b"4242", 0)
        for age_s in (1, tool._FORGOTTEN_S + 1, 2 * tool._FORGOTTEN_S + 1):
            os.utime(lock, (time.time() - age_s,) * 2)
            with pytest.raises(SmiError, match="pid 4242"):
                smi().run()
    assert sent == [(4242, signal.SIGTERM), (4242, signal.SIGKILL)]


def test_what_the_tool_complains_of_is_told(tmp_path: Path) -> None:
    program = write_script(tmp_path, SimOptions(state=tmp_path / "sim", has_driver=False))
    with pytest.raises(SmiError, match="axcl init fail, ret = 0x8030010b"):
        Smi(program, tmp_path / "smi.lock", timeout_s=PATIENCE_S).run()


def test_whoever_makes_the_lock_leaves_it_to_others(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Smi(script(tmp_path / "quick", "echo well"), tmp_path / "smi.lock", timeout_s=PATIENCE_S).run()
    finally:
        os.umask(before)
    assert (tmp_path / "smi.lock").stat().st_mode & 0o777 == 0o666


def test_a_missing_tool_is_told(tmp_path: Path) -> None:
    with pytest.raises(SmiError, match="cannot be run: No such file"):
        Smi(tmp_path / "none", tmp_path / "smi.lock", timeout_s=1).run()
    with pytest.raises(SmiError, match="cannot be opened"):
        Smi(tmp_path / "none", Path("/proc/none/smi.lock"), timeout_s=1).run()


def test_the_tool_is_found_without_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(tool, "PLACES", (str(tmp_path / "usr"),))
    assert find_smi() is None
    on_path = write_script(tmp_path / "path")
    assert find_smi() == on_path
    old = write_script(tmp_path / "usr", name="axcl_smi")
    assert find_smi() == old
    new = write_script(tmp_path / "usr")
    assert find_smi() == new
    assert find_smi(Path("/opt/other")) == Path("/opt/other")
