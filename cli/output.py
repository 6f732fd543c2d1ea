"""Data to stdout, progress to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

_LEAST_LAST = 8
"""Characters of a clipped column that are still worth their room."""


def print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str, clips_last: bool = False
) -> None:
    """Aligned columns; ``empty`` goes to stderr when there is nothing to show.

    On a terminal a column without content is left out; the last one, when it ``clips_last``, gets what room
    there is, or none.
    """
    shown = [tuple(row) for row in rows]
    if not shown:
        sys.stderr.write(empty + "\n")
        return
    if sys.stdout.isatty():
        _draw_table(columns, shown, clips_last=clips_last)
        return
    for row in (tuple(columns), *shown):
        sys.stdout.write("\t".join(row) + "\n")


def _draw_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]], *, clips_last: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widest = [max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(columns)]
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    last = len(columns) - 1
    room = console.width - sum(widest[at] + 2 for at in kept if at != last)
    if clips_last and last in kept and room < _LEAST_LAST:
        kept.remove(last)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at in kept:
        # The first column is there to be copied: it is never cut short. Next to a last one that is, none is.
        is_whole = at == 0 or (clips_last and at != last)
        table.add_column(
            columns[at],
            no_wrap=is_whole or clips_last,
            min_width=widest[at] if is_whole else None,
            max_width=room if clips_last and at == last else None,
        )
    for row in rows:
        table.add_row(*(Text(row[at]) for at in kept))
    console.print(table)


def dim(text: str) -> str:
    """``text`` for stderr, set back where the terminal can (https://no-color.org)."""
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[2m{text}\x1b[22m"


class Status:
    """One line on stderr that is overwritten by the next, on a terminal; a line each, elsewhere."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str, ahead: str = "") -> None:
        """``ahead`` stands before it on a terminal only: what is drawn there means nothing in a log."""
        if text == self._shown:
            return
        sys.stderr.write(f"\r\x1b[K{_fitting(ahead + text)}" if self.is_terminal else f"{text}\n")
        sys.stderr.flush()
        self._shown = text

    def clear(self) -> None:
        if self._shown and self.is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._shown = ""


def _fitting(text: str) -> str:
    """A line that wraps around could not be taken back."""
    width = shutil.get_terminal_size().columns
    return text if len(text) < width else text[: max(0, width - 2)] + "…"


def bar(done: int, total: int, width: int = 20) -> str:
    """``━━━━━━╌╌╌╌``: how much of it is done."""
    filled = width * done // total if total else 0
    return "━" * filled + "╌" * (width - filled)


def age(at_s: float | None) -> str:
    """How long ago ``at_s`` (seconds since the epoch) was."""
    if at_s is None:
        return ""
    seconds = max(0, round(time.time() - at_s))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
