"""The vendor's wheel is installed once per content, from the file alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli import wheel
from cli.errors import CliError

Calls = list[list[str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """pip is told to; ``damaged.whl`` is what it refuses."""
    made: Calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        made.append(command)
        refused = command[-1].endswith("damaged.whl")
        return subprocess.CompletedProcess(command, int(refused), "", "ERROR: x\nERROR: not a wheel\n")

    monkeypatch.setattr("cli.wheel.subprocess.run", run)
    monkeypatch.setattr("cli.wheel.sys.prefix", str(tmp_path))
    return made


def nothing(_: str) -> None:
    pass


def test_without_the_setting_nothing_happens(calls: Calls) -> None:
    wheel.install(None, nothing)
    assert calls == []


def test_it_is_installed_once_and_again_when_it_has_changed(calls: Calls, tmp_path: Path) -> None:
    file = tmp_path / "axengine-1.whl"
    file.write_bytes(b"one")
    wheel.install(file, nothing)
    wheel.install(file, nothing)
    assert len(calls) == 1
    assert {"--no-deps", "--no-index"} <= set(calls[0])
    file.write_bytes(b"two")
    wheel.install(file, nothing)
    assert len(calls) == 2


def test_a_file_that_is_not_there_is_one_line(calls: Calls, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"axengine_wheel .* cannot be read"):
        wheel.install(tmp_path / "none.whl", nothing)


def test_a_file_that_pip_refuses_is_told_with_its_reason(calls: Calls, tmp_path: Path) -> None:
    file = tmp_path / "damaged.whl"
    file.touch()
    with pytest.raises(CliError, match="not a wheel"):
        wheel.install(file, nothing)
    with pytest.raises(CliError):
        wheel.install(file, nothing)
    assert len(calls) == 2
