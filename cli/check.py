"""``hearth check``: everything that can be said about the code without running it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from cli.output import print_json
from config.settings import CHECKOUT

SHELL_SCRIPTS = ("hearth", ".ci/run", "requirements/lock")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    passed: bool
    took_s: float
    output: str


def checks() -> list[Check]:
    python = (sys.executable, "-m")
    found = [
        Check("lint", (*python, "ruff", "check", ".")),
        Check("format", (*python, "ruff", "format", "--check", ".")),
        Check("rooms", (sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")),
        Check("types", (*python, "mypy", *_typed())),
    ]
    shellcheck = shutil.which(
        "shellcheck", path=os.pathsep.join([_beside_python(), os.environ.get("PATH", "")])
    )
    if shellcheck is None:
        sys.stderr.write("shell: not checked, there is no shellcheck here (apt install shellcheck)\n")
    else:
        found.append(Check("shell", (shellcheck, *SHELL_SCRIPTS)))
    return found


def check(*, as_json: bool) -> int:
    """Run all of them, whatever the first ones say. Returns 0 when all passed."""
    verdicts = [_run(one, shows=not as_json) for one in checks()]
    if as_json:
        print_json([{"name": v.name, "passed": v.passed, "took_s": round(v.took_s, 2)} for v in verdicts])
    failed = [verdict.name for verdict in verdicts if not verdict.passed]
    sys.stderr.write(f"check: {', '.join(failed)} failed\n" if failed else "check: all is well\n")
    return 1 if failed else 0


def _run(one: Check, *, shows: bool) -> Verdict:
    began_s = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        one.command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    verdict = Verdict(one.name, done.returncode == 0, time.monotonic() - began_s, done.stdout + done.stderr)
    if shows:
        word = "ok" if verdict.passed else "FAILED"
        sys.stdout.write(f"{verdict.name:<8} {word} ({verdict.took_s:.1f} s)\n")
        if not verdict.passed:
            sys.stdout.write(verdict.output + "\n")
        sys.stdout.flush()
    return verdict


def _typed() -> list[str]:
    """Every room, and the tests."""
    rooms = ("api", "bench", "cli", "config", "demo", "hardware", "models", "tasks", "worker", "tests")
    return [room for room in rooms if (CHECKOUT / room / "__init__.py").exists()]


def _beside_python() -> str:
    return os.path.dirname(sys.executable)  # noqa: PTH120 - the directory as it is called, not where it leads
