"""What is known of the card's process that died: how it was ended, and where in its code it was.

A process that dies of a fault in native code cannot say anything itself; ``faulthandler`` leaves the frames
it was in. Its parent knows the signal. Its successor puts the two together, for the job that was running.
"""

from __future__ import annotations

import faulthandler
import re
import signal
from pathlib import Path
from typing import TextIO

from config.settings import CHECKOUT

_FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>\S+)$', re.MULTILINE)
_HINTS = {signal.SIGKILL: ", from outside, as the kernel does when memory runs out"}
_frames: TextIO | None = None
"""Open as long as the process lives: a dying one can open nothing."""


def path_of(directory: Path, card_id: str) -> Path:
    """Where the process that owns the card leaves its last frames."""
    return directory / f"{card_id.replace('/', '_')}.frames"


def last_frames(path: Path) -> str:
    """What the process before this one left; empty when it died of nothing that can be seen from inside."""
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def leave_frames(path: Path) -> None:
    """From now on a fault that ends this process leaves its frames at ``path``; what stood there is gone."""
    global _frames
    _frames = path.open("w", encoding="utf-8")
    faulthandler.enable(_frames, all_threads=False)


def last_words(exit_code: int | None, frames: str) -> str:
    """What can follow "it": ``was ended by SIGSEGV in execute (hardware/axcl/card.py:211)``; empty: unknown.

    ``exit_code`` is the child's, negative for a signal; None when its parent died with it.
    """
    if exit_code is None:
        where = _where(frames)
        return f"died{where}" if where else ""
    return _how(exit_code) + _where(frames)


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"left with exit status {exit_code}"
    try:
        number = signal.Signals(-exit_code)
    except ValueError:
        return f"was ended by signal {-exit_code}"
    return f"was ended by {number.name}{_HINTS.get(number, '')}"


def _where(frames: str) -> str:
    """The innermost frame of our own, else the innermost one."""
    found = list(_FRAME.finditer(frames))
    ours = [frame for frame in found if Path(frame["file"]).is_relative_to(CHECKOUT)]
    for frame in (*ours, *found):
        file = Path(frame["file"])
        shown = file.relative_to(CHECKOUT) if file.is_relative_to(CHECKOUT) else file.name
        return f" in {frame['name']} ({shown}:{frame['line']})"
    return ""
