"""The command as a process: exit statuses, one-line errors, and how fast help comes."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from cli.check import checks
from cli.tools import on_all_cores
from tests.cli.house import run_cli

NOBODY = {"HEARTH_URL": "http://127.0.0.1:9"}
"""The discard port: nobody listens there."""


@pytest.mark.parametrize(
    "arguments",
    [("chat", "Hi"), ("jobs", "ls"), ("jobs", "show", "job_1"), ("models", "ls", "--json")],
    ids=" ".join,
)
def test_without_a_server_it_says_how_to_start_one(arguments: tuple[str, ...]) -> None:
    done = run_cli(*arguments, environment=NOBODY)
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hearth: no server at http://127.0.0.1:9. Start it with:  ./hearth up")


def test_an_address_that_is_none_is_one_line() -> None:
    for url, status in (("ftp://x", 2), ("http://[", 3), ("nonsense", 2)):
        done = run_cli("jobs", "ls", "--url", url)
        assert done.returncode == status
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_help_is_there_at_once() -> None:
    took_s = []
    for _ in range(3):
        began_s = _worked_s()
        done = run_cli("--help")
        took_s.append(_worked_s() - began_s)
        assert done.returncode == 0
        assert "Keeps the models warm and the card cool." in done.stdout
    assert min(took_s) < 1.0  # 0.25 s on an idle machine; one that is busy is slower, not only later


def _worked_s() -> float:
    """Processor time of all children that have ended: what else runs here does not count."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def test_wrong_usage_is_status_2() -> None:
    assert run_cli("jobs", "shwo").returncode == 2
    assert run_cli("jobs", "ls", "--limit", "0").returncode == 2


@pytest.mark.parametrize(
    ("cores", "told"),
    [
        ({0}, []),
        ({0, 1}, ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]),
        (set(range(64)), ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]),
    ],
)
def test_the_tests_run_on_the_cores_there_are(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], told: list[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert on_all_cores() == told


def test_an_unknown_benchmark_is_told_which_there_are() -> None:
    done = run_cli("bench", "nothing")
    assert done.returncode == 2
    assert "there is no benchmark 'nothing'; there are:" in done.stderr


def test_the_card_has_its_own_options(tmp_path: Path) -> None:
    done = run_cli("card", "--json", environment={"HEARTH_DATA_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_check_looks_at_everything() -> None:
    names = [check.name for check in checks()]
    assert names[:4] == ["lint", "format", "rooms", "types"]
    typed = next(check.command for check in checks() if check.name == "types")
    assert {"api", "bench", "cli", "config", "hardware", "models", "tasks", "tests", "worker"} <= set(typed)
