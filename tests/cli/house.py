"""Runs a house of stand-ins for a test, and sees to it that nothing of it outlives the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from config.settings import CHECKOUT

PATIENCE_S = 20.0


class House:
    def __init__(self, data_dir: Path, **manners: str) -> None:
        self.data_dir = data_dir
        variables = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.standins", str(data_dir)],
            cwd=CHECKOUT,
            env={**variables, **manners},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serving(self) -> dict[str, Any]:
        """Wait until it serves; what the banner would tell."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it did not come up: {self.ended()[1]}")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def ended(self) -> tuple[int, str]:
        """Wait for its end: exit status and what it said."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said

    def told(self) -> list[str]:
        path = self.data_dir / "told"
        return path.read_text().splitlines() if path.exists() else []

    def pid_of(self, name: str) -> int:
        """The process that was started last under this name."""
        until(lambda: self._starts(name))
        return self._starts(name)[-1]

    def _starts(self, name: str) -> list[int]:
        return [int(line.split()[2]) for line in self.told() if line.startswith(f"{name} start ")]

    def complete(self) -> None:
        """Wait until every stand-in has told of its start, and so is ready to hear of its end."""
        for name in ("api", "npu", "monitor", "flower"):
            self.pid_of(name)

    def redis(self) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "redis" in child.name())

    def everybody(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        family = self.everybody() if self.process.poll() is None else []
        self.process.kill()
        for member in [*family, *self._left_behind()]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()

    def _left_behind(self) -> list[psutil.Process]:
        """What a supervisor that failed its test did not take along."""
        told = {int(line.split()[2]) for line in self.told() if " start " in line}
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(self.data_dir) in word for word in process.info["cmdline"] or ())
            or (process.pid in told and "tests/cli/standin.py" in " ".join(process.info["cmdline"] or ()))
        ]


def until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.02)


def run_cli(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """``hearth …`` as a process of its own."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env={**variables, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
