"""``hearth models pull`` and ``rm``: what is shown, what goes to stdout, and what is an error."""

from __future__ import annotations

import json

import httpx
import pytest

from cli.errors import CliError
from cli.pull import pull, rm
from tests.cli.server import Server

Captured = pytest.CaptureFixture[str]
LAYER = {"status": "pulling 0602b995ca13", "digest": "sha256:0602b995ca13", "total": 2 << 20}
LINES = (
    {"status": "pulling manifest"},
    {**LAYER, "completed": 0},
    {**LAYER, "completed": 1 << 20},
    {**LAYER, "completed": 2 << 20},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
)


def told(*lines: object) -> httpx.Response:
    return httpx.Response(200, content="".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def server() -> Server:
    server = Server()
    server.routes["POST /api/pull"] = told(*LINES)
    server.routes["DELETE /api/delete"] = httpx.Response(200)
    return server


def test_progress_is_for_stderr_and_a_log_gets_few_lines(server: Server, capsys: Captured) -> None:
    pull(server.client(), "qwen3:4b", as_json=False)
    said = capsys.readouterr()
    assert said.out == "qwen3:4b is here\n"
    assert said.err.splitlines() == [
        "pulling manifest",
        "pulling 0602b995ca13: 2 MiB",
        "verifying sha256 digest",
        "writing manifest",
    ]
    assert server.sent("POST") == [{"model": "qwen3:4b"}]


def test_on_a_terminal_there_is_a_bar(
    server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    pull(server.client(), "m", as_json=False)
    assert "━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  1 MiB of 2 MiB" in capsys.readouterr().err


def test_as_json_every_line_is_passed_on(server: Server, capsys: Captured) -> None:
    pull(server.client(), "m", as_json=True)
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == list(LINES)
    assert said.err == ""


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (told(LINES[0], {"error": "the disk is full"}), "the disk is full"),
        (httpx.Response(404, json={"error": "there is no model 'm' here"}), "there is no model 'm' here"),
        (told(*LINES[:3]), "pull it again to go on"),
        (httpx.Response(200, text="<html>"), "is that a Hearth"),
    ],
    ids=["on the way", "at once", "broken off", "not json"],
)
def test_a_pull_that_comes_to_nothing_is_one_line(server: Server, response: httpx.Response, why: str) -> None:
    server.routes["POST /api/pull"] = response
    with pytest.raises(CliError, match=why) as failed:
        pull(server.client(), "m", as_json=False)
    assert failed.value.status == 1


def test_a_model_is_removed_by_its_name(server: Server, capsys: Captured) -> None:
    rm(server.client(), "m", as_json=False)
    assert capsys.readouterr().out == "m is removed\n"
    assert server.sent("DELETE") == [{"model": "m"}]
    server.routes["DELETE /api/delete"] = httpx.Response(409, json={"error": "1 job needs 'm'"})
    with pytest.raises(CliError, match="1 job needs 'm'"):
        rm(server.client(), "m", as_json=False)
