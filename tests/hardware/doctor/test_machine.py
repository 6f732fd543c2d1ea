"""A machine is files below a root and commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hardware.doctor.machine import Machine, Ran, free_bytes, run_command


def test_files_are_looked_for_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "x").write_bytes(b"Raspberry Pi 5\0\n")
    machine = Machine(root=tmp_path)
    assert machine.has("/proc/x")
    assert machine.text("/proc/x") == "Raspberry Pi 5"
    assert machine.names("/proc") == ["x"]
    assert machine.may_use("/proc/x")
    assert (machine.text("/etc/passwd"), machine.names("/etc"), machine.has("/etc")) == (None, [], False)
    assert (machine.board, machine.kernel, machine.is_raspberry_pi) == ("", "", False)


def test_this_machine_is_one() -> None:
    machine = Machine()
    assert machine.kernel == os.uname().release
    assert machine.python == sys.version_info[:2]
    assert machine.run(sys.executable, "-c", "print('well')") == Ran(0, "well\n")


def test_commands_that_are_missing_or_do_not_end_are_none() -> None:
    assert run_command(["/none"], 5) is None
    assert run_command([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) is None
    assert run_command([sys.executable, "-c", "raise SystemExit('no')"], 30) == Ran(1, "no\n")


def test_room_is_told_for_directories_that_are_yet_to_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == free_bytes(tmp_path) != None  # noqa: E711
