"""What a process says is kept in files that do not grow for ever, and repeated when asked."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli import logs
from cli.logs import ChildLog


def test_files_are_rotated_and_the_oldest_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 10)
    log = ChildLog(tmp_path / "x.log", prefix="x", verbose=False)
    for number in range(6):
        log.write(b"line %d..\n" % number)
    log.close()
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {f"x.log{'' if n == 5 else f'.{5 - n}'}": f"line {n}..\n" for n in (5, 4, 3, 2)}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


def test_only_whole_lines_are_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = ChildLog(tmp_path / "x.log", prefix="api", verbose=True)
    log.write(b"one\ntw")
    assert capsys.readouterr().err == "api | one\n"
    log.write(b"o\n\xff\n")
    assert capsys.readouterr().err == "api | two\napi | \ufffd\n"
    log.close()


def test_the_last_words_are_those_that_say_something(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.log", prefix="x", verbose=False)
    assert log.last_words() == ""
    log.write(b"Traceback:\n  File x\nValueError: no\n\n  \n")
    assert log.last_words() == "ValueError: no"
    log.close()
