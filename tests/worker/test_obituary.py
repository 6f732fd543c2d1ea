"""What is told of a process that died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import CHECKOUT
from worker.obituary import last_frames, last_words, path_of

_TRACE = f"""Fatal Python error: Segmentation fault

Current thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "{CHECKOUT}/hardware/axcl/card.py", line 211 in execute
  File "{CHECKOUT}/models/llm/decode.py", line 80 in step
"""


@pytest.mark.parametrize(
    ("exit_code", "frames", "told"),
    [
        (-11, _TRACE, "was ended by SIGSEGV in execute (hardware/axcl/card.py:211)"),
        (-9, "", "was ended by SIGKILL, from outside, as the kernel does when memory runs out"),
        (-11, _TRACE.splitlines()[3], "was ended by SIGSEGV in string_at (__init__.py:519)"),
        (-60, "", "was ended by signal 60"),
        (3, "", "left with exit status 3"),
        (None, _TRACE, "died in execute (hardware/axcl/card.py:211)"),
        (None, "", ""),
        (-6, "Fatal Python error: Aborted\n\n  <no Python frame>\n", "was ended by SIGABRT"),
    ],
)
def test_what_is_known_is_one_clause(exit_code: int | None, frames: str, told: str) -> None:
    assert last_words(exit_code, frames) == told


def test_a_real_fault_leaves_frames_that_are_understood(tmp_path: Path) -> None:
    path = path_of(tmp_path, "axcl:0")
    assert last_frames(path) == ""
    path.write_text("of one before")
    code = (
        f"import ctypes, pathlib; from worker.obituary import leave_frames; "
        f"leave_frames(pathlib.Path({str(path)!r})); ctypes.string_at(0)"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False, capture_output=True)
    words = last_words(died.returncode, last_frames(path))
    assert words.startswith("was ended by SIGSEGV in string_at (")
