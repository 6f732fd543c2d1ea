"""``hearth chat`` in a real terminal, against the whole server."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from bench.stack import Stack
from config.settings import CHECKOUT
from tests.whole.conftest import Card

PATIENCE_S = 30.0


class Terminal:
    """A command under a terminal of its own, typed into."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.shown = b""
        self._read = 0
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.environ.update(environment)
            os.execv(sys.executable, [sys.executable, "-P", "-m", "cli", *arguments])  # noqa: S606

    def until(self, pattern: bytes) -> bytes:
        """Wait until ``pattern`` is shown behind what was waited for before; returns what was shown."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.shown[self._read :], re.DOTALL)) is None:
            assert time.monotonic() < deadline_s, self.shown.decode(errors="replace")
            if select.select([self._master], [], [], 0.2)[0]:
                self.shown += os.read(self._master, 65536)
        begun, self._read = self._read, self._read + found.end()
        return self.shown[begun : self._read]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ended(self) -> int:
        """The exit status; what it still says is taken meanwhile."""
        try:
            while select.select([self._master], [], [], PATIENCE_S)[0] and (
                more := os.read(self._master, 65536)
            ):
                self.shown += more
        except OSError:  # how Linux tells that the other side is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._master)


def test_a_conversation_in_a_terminal(
    server: Stack, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    terminal = Terminal(
        "chat", "-m", "hearth-chat", HEARTH_URL=server.url, XDG_STATE_HOME=str(tmp_path), TERM="xterm"
    )
    try:
        terminal.until(rb"> $")
        terminal.type("What is 47 + 38?\r")
        assert b"\x1b[2m" in terminal.until(rb"85\.\s+.*> $"), "thoughts are shown, and set back"
        card("set-fault", "slow", "--factor", "40")
        terminal.type("What is Hearth?\r")
        terminal.until(rb"Hearth turns")
        terminal.type("\x03")
        terminal.until(rb"stopped.*> $")
        card("set-fault", "none")
        terminal.type("/ret\t\r")
        terminal.until(rb"one small computer.*> $")
        terminal.type("\x1b[A\x1b[A\x15\x04")
        assert terminal.ended() == 0
    finally:
        terminal.close()
    kept = tmp_path / "hearth" / "chat-history"
    assert kept.read_text().splitlines() == ["What is 47 + 38?", "What is Hearth?", "/retry"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
