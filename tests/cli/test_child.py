"""One supervised process: how it is started again, and how soon."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from cli import child
from cli.child import Child
from cli.logs import ChildLog
from cli.processes import Process


def make(tmp_path: Path, script: str, said: list[str]) -> Child:
    process = Process("it", ("/bin/sh", "-c", script), patience_s=0.3)
    log = ChildLog(tmp_path / "it.log", prefix="it", verbose=False)
    return Child(process, {**os.environ, "STARTS": str(tmp_path / "starts")}, log, said.append)


def starts_s(tmp_path: Path) -> list[float]:
    path = tmp_path / "starts"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


async def until_starts(tmp_path: Path, number: int) -> list[float]:
    deadline_s = time.monotonic() + 20
    while len(starts_s(tmp_path)) < number:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)
    return starts_s(tmp_path)


async def test_pauses_double_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(child, "LONGEST_PAUSE_S", 0.4)
    said: list[str] = []
    it = make(tmp_path, 'date +%s.%N >>"$STARTS"; exit 3', said)
    it.start()
    times = await until_starts(tmp_path, 5)
    await it.stop(may_kill=True)
    it.log.close()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= pause for gap, pause in zip(gaps, (0.1, 0.2, 0.4, 0.4), strict=True)), gaps
    assert it.deaths >= 4
    assert said[0].startswith("it ended with status 3, log: ")


async def test_one_that_was_healthy_comes_back_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(child, "LONGEST_PAUSE_S", 1000.0)
    monkeypatch.setattr(child, "HEALTHY_S", 0.0)
    it = make(tmp_path, 'date +%s.%N >>"$STARTS"; exit 0', [])
    it.start()
    # Doubling would make the twentieth pause longer than an hour.
    await until_starts(tmp_path, 20)
    await it.stop(may_kill=True)
    it.log.close()


async def test_its_words_are_kept(tmp_path: Path) -> None:
    it = make(tmp_path, 'echo out; echo err >&2; date +%s.%N >>"$STARTS"; exec sleep 60', [])
    it.start()
    await until_starts(tmp_path, 1)
    await it.stop(may_kill=True)
    it.log.close()
    assert sorted((tmp_path / "it.log").read_text().split()) == ["err", "out"]


async def test_one_that_is_late_is_killed_with_all_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    it = make(tmp_path, "trap '' TERM; date +%s.%N >>\"$STARTS\"; sleep 60; sleep 60", said)
    it.start()
    await until_starts(tmp_path, 1)
    assert it.pid is not None
    family = [psutil.Process(it.pid), *psutil.Process(it.pid).children(recursive=True)]
    await it.stop(may_kill=True)
    it.log.close()
    assert "is killed" in said[-1]
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


async def test_it_stands_outside_of_our_terminal_and_dies_with_us(tmp_path: Path) -> None:
    it = make(tmp_path, 'date +%s.%N >>"$STARTS"; exec sleep 60', [])
    it.start()
    await until_starts(tmp_path, 1)
    assert it.pid is not None
    assert os.getsid(it.pid) == it.pid != os.getsid(0)
    it.signal(signal.SIGTERM)
    await it.stop(may_kill=True)
    it.log.close()


async def test_what_cannot_be_started_says_so_and_is_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    log = ChildLog(tmp_path / "it.log", prefix="it", verbose=False)
    it = Child(Process("it", ("/nowhere/it",)), {}, log, said.append)
    it.start()
    await asyncio.wait_for(it.died.wait(), 10)
    await it.stop(may_kill=True)
    log.close()
    assert "cannot start /nowhere/it" in said[0]
