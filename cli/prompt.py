"""Reading what is typed: a line with editing and history, or several lines at once."""

from __future__ import annotations

import os
import readline
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KEPT_LINES = 1000
_FENCE = '"""'
_MORE = "… "


@dataclass(frozen=True, slots=True)
class Typed:
    """``may_command``: it is one line and in no quotes, so a slash at its beginning means something."""

    text: str
    may_command: bool


class Prompt:
    """Use as a context manager. ``complete`` gives what a line that begins with a slash may go on with."""

    def __init__(self, history: Path | None, complete: Callable[[str], Sequence[str]]) -> None:
        self._history = history
        self._complete = complete
        self._found: list[str] = []

    def __enter__(self) -> Prompt:
        readline.clear_history()
        readline.set_history_length(KEPT_LINES)
        if self._history is not None:
            with suppress(OSError):
                readline.read_history_file(self._history)
        readline.set_completer(self._completer)
        readline.set_completer_delims("")
        readline.parse_and_bind("tab: complete")
        return self

    def __exit__(self, *_: object) -> None:
        readline.set_completer(None)
        if self._history is None:
            return
        try:
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made by us first: what others may not read was never readable.
            os.close(os.open(self._history, os.O_WRONLY | os.O_CREAT, 0o600))
            self._history.chmod(0o600)
            readline.write_history_file(self._history)
        except OSError as error:
            sys.stderr.write(f"note: {self._history} cannot be written: {error.strerror}\n")

    def read(self, mark: str = "> ") -> Typed | None:
        """What was typed; None at the end (Ctrl-D). Raises KeyboardInterrupt.

        A line that ends in a backslash goes on with the next one; between lines of three quotes all is taken.
        """
        line = self._line(mark)
        if line is None:
            return None
        if line.strip().startswith(_FENCE):
            return Typed(self._fenced(line.strip().removeprefix(_FENCE)), may_command=False)
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            more = self._line(_MORE)
            if more is None:
                break
            lines.append(more)
        return Typed("\n".join(lines).strip(), may_command=len(lines) == 1)

    def _fenced(self, first: str) -> str:
        lines = [first]
        while not lines[-1].rstrip().endswith(_FENCE):
            more = self._line(_MORE)
            if more is None:
                break
            lines.append(more)
        return "\n".join(lines).rstrip().removesuffix(_FENCE).strip("\n")

    def _line(self, mark: str) -> str | None:
        try:
            if sys.stdout.isatty():
                return input(mark)
            sys.stderr.write(mark)  # what goes to stdout is somebody's data
            sys.stderr.flush()
            return input()
        except EOFError:
            return None

    def _completer(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = list(self._complete(text)) if text.startswith("/") else []
        return self._found[state] if state < len(self._found) else None
