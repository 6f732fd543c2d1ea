"""Completion in bash, asked as the shell asks: by the script it was given, for ``./hearth`` too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.completion import script
from cli.errors import CliError
from config.settings import CHECKOUT
from tests.cli.server import JOB_ID

ANSWERS = {
    "/v1/models": b'{"data": [{"id": "hearth-chat"}], "unusable": [{"id": "half"}]}',
    "/v1/jobs": b'{"data": [{"id": "%s"}]}' % JOB_ID.encode(),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ANSWERS[self.path])

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A ``hearth`` that needs no set-up."""
    path = tmp_path / "hearth"
    path.write_text(f'#!/bin/sh\nexec env PYTHONPATH={CHECKOUT} {sys.executable} -P -m cli "$@"\n')
    path.chmod(0o755)
    return path


def completed(command: Path, url: str, *words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    program = script("bash") + (
        'COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _hearth_completion "$1"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", str(command), *words],
        env={"PATH": os.environ["PATH"], "HEARTH_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_models_and_jobs_are_completed(command: Path, url: str) -> None:
    assert completed(command, url, "mod") == ["models"]
    assert completed(command, url, "models", "unload", "") == ["hearth-chat", "half"]
    assert completed(command, url, "chat", "-m", "hea") == ["hearth-chat"]
    assert completed(command, url, "jobs", "show", "job_") == [JOB_ID]


def test_without_a_server_there_is_nothing_and_no_noise(command: Path) -> None:
    assert completed(command, "http://127.0.0.1:9", "models", "load", "") == []


def test_zsh_and_fish_call_the_command_by_its_path() -> None:
    for shell in ("zsh", "fish"):
        assert f"_HEARTH_COMPLETE=complete_{shell}" in script(shell)
        assert script(shell).count(f" {CHECKOUT}/hearth") == (1 if shell == "zsh" else 2)
    with pytest.raises(CliError, match="bash, zsh, fish"):
        script("tcsh")
