"""Commands that are programs of their own: the card, the doctor, the tests, the benchmarks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cli.errors import CliError
from config.settings import CHECKOUT

_MOST_PROCESSES = 4
"""Of the tests; each takes half a gigabyte, and starts Redis and servers of its own."""


def hand_over(module: str, arguments: Sequence[str], *, in_checkout: bool = False) -> NoReturn:
    """Become ``python -m module``; the rooms are found wherever we were called from."""
    if in_checkout:
        os.chdir(CHECKOUT)
    path = [str(CHECKOUT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], environment)  # noqa: S606


def on_all_cores() -> list[str]:
    """For pytest: each file in one process, so that what a file's tests share is made once.

    In the order of the files: pytest-xdist would leave the file with the one long test for the end.
    """
    cores = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    return ["-n", str(cores), "--dist", "loadfile", "--no-loadscope-reorder"] if cores > 1 else []


def bench(arguments: Sequence[str]) -> NoReturn:
    """Become the benchmark that ``arguments[0]`` names. Raises CliError."""
    known = sorted(path.stem for path in (CHECKOUT / "bench").glob("*.py") if _is_benchmark(path))
    name = arguments[0] if arguments else ""
    if name not in known:
        what = f"there is no benchmark {name!r}" if name and not name.startswith("-") else "which benchmark?"
        raise CliError(f"{what}; there are: {', '.join(known) or 'none'}", status=2)
    hand_over(f"bench.{name}", arguments[1:])


def _is_benchmark(path: Path) -> bool:
    """Those that can be run have a main."""
    return 'if __name__ == "__main__"' in path.read_text("utf-8")
