"""A whole Hearth of one's own for a benchmark: its own data directory, its own port, gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_LIMIT_S = 90.0
STOP_LIMIT_S = 30.0


class StackError(Exception):
    """The server did not come up; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running server. ``ready_s``: from the start of ``hearth up`` to ``/ready`` answering 200."""

    url: str
    data_dir: Path
    ready_s: float
    pid: int


def free_port() -> int:
    """A TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """``hearth up`` in a temporary data directory; drained and stopped on the way out.

    Raises:
        StackError: it ended or was not ready within 90 s.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder,
        running_in(Path(folder), environment) as server,
    ):
        yield server


@contextmanager
def running_in(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """The same in a data directory that was there before and stays. Raises StackError."""
    port = free_port()
    log = data_dir / "up.log"
    command = [sys.executable, "-m", "cli", "up", "--port", str(port), "--data-dir", str(data_dir)]
    variables = {**os.environ, "HEARTH_FLOWER": "false", **(environment or {})}
    began = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=variables, stdout=sink, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_ready(url, process, log, began)
        yield Stack(url, data_dir, time.monotonic() - began, process.pid)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM and wait; a process that does not end in 30 s is a failure worth seeing."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(STOP_LIMIT_S)


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path, began: float) -> None:
    with httpx.Client(timeout=2.0) as client:
        while time.monotonic() - began < START_LIMIT_S:
            if process.poll() is not None:
                raise StackError(f"hearth up ended with {process.returncode}:\n{_end_of(log)}")
            try:
                if client.get(f"{url}/ready").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.02)
    raise StackError(f"hearth up was not ready within {START_LIMIT_S:.0f} s:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
