"""``hearth batches``: what it sends, what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import batches
from cli.errors import CliError
from tests.cli.server import Server

Captured = pytest.CaptureFixture[str]
ID = "batch_" + "0" * 40
BATCH: dict[str, Any] = {
    "id": ID,
    "endpoint": "/v1/completions",
    "model": "hearth-chat",
    "errors": None,
    "input_file_id": "file-in",
    "output_file_id": "file-out",
    "error_file_id": None,
    "status": "completed",
    "created_at": 1_795_000_000,
    "expires_at": 1_795_086_400,
    "request_counts": {"total": 3, "completed": 3, "failed": 0},
    "usage": {"input_tokens": 9, "output_tokens": 6},
    "metadata": {"for": "me"},
}
FAULT = {"code": "invalid_value", "line": 2, "message": "'n' should be 1", "param": "body.n"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_S", 0.0)


@pytest.fixture
def server() -> Server:
    made = Server()
    made.routes |= {
        "POST /v1/files": httpx.Response(200, json={"id": "file-in"}),
        "POST /v1/batches": httpx.Response(200, json={**BATCH, "status": "validating"}),
        f"GET /v1/batches/{ID}": httpx.Response(200, json=BATCH),
        "GET /v1/files/file-out": httpx.Response(200, json={"filename": f"../{ID}_output.jsonl"}),
        "GET /v1/files/file-out/content": httpx.Response(200, content=b'{"a": 1}\n'),
    }
    return made


def told(server: Server, **fields: Any) -> None:
    server.routes[f"GET /v1/batches/{ID}"] = httpx.Response(200, json={**BATCH, **fields})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"url": "/v1/completions"}) + "\n{}\n")
    return path


def test_submit_sends_the_file_and_prints_the_id(server: Server, file: Path, capsys: Captured) -> None:
    assert batches.submit(server.client(), file, None, and_wait=False, as_json=False) == 0
    said = capsys.readouterr()
    assert said.out == f"{ID}\n"
    assert f"hearth batches wait {ID}" in said.err
    form, order = (request.content for request in server.asked)
    assert file.read_bytes() in form
    assert b'name="purpose"\r\n\r\nbatch' in form
    assert json.loads(order) == {
        "input_file_id": "file-in",
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }


def test_the_endpoint_can_be_named(server: Server, file: Path) -> None:
    batches.submit(server.client(), file, "/v1/embeddings", and_wait=False, as_json=True)
    assert json.loads(server.asked[1].content)["endpoint"] == "/v1/embeddings"


def test_a_file_that_is_not_there_is_a_usage_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="No such file") as failed:
        batches.submit(server.client(), tmp_path / "none", None, and_wait=False, as_json=False)
    assert failed.value.status == 2


def test_waiting_tells_how_it_stands_and_ends_well(server: Server, file: Path, capsys: Captured) -> None:
    running = {
        **BATCH,
        "status": "in_progress",
        "request_counts": {"total": 3, "completed": 1, "failed": 1},
    }
    answers = iter([running, running, BATCH])
    server.routes[f"GET /v1/batches/{ID}"] = lambda _: httpx.Response(200, json=next(answers))
    assert batches.submit(server.client(), file, None, and_wait=True, as_json=False) == 0
    said = capsys.readouterr().err
    assert "in progress: 1 of 3 answered, 1 failed\n" in said
    assert "completed: 3 of 3 answered\n" in said
    assert f"hearth batches save {ID}" in said


@pytest.mark.parametrize(
    "fields",
    [
        {"request_counts": {"total": 3, "completed": 2, "failed": 1}},
        {
            "status": "failed",
            "output_file_id": None,
            "errors": {"data": [FAULT]},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        },
    ],
)
def test_what_was_not_answered_is_an_exit_status(
    server: Server, capsys: Captured, fields: dict[str, Any]
) -> None:
    told(server, **fields)
    assert batches.wait(server.client(), ID, as_json=False) == 1
    if "errors" in fields:
        assert capsys.readouterr().err == "failed\n  line 2: 'n' should be 1 (invalid_value)\n"


def test_show_and_ls_and_cancel(server: Server, capsys: Captured) -> None:
    told(server, errors={"data": [FAULT] * 12})
    batches.show(server.client(), ID, as_json=False)
    shown = capsys.readouterr().out
    for piece in (ID, "9 in, 6 out", "file-out", "for        me", "and 2 more: --json"):
        assert piece in shown
    page = {"data": [BATCH], "has_more": True}
    server.routes["GET /v1/batches"] = httpx.Response(200, json=page)
    batches.ls(server.client(), 20, as_json=False)
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split("\t")[:5] == [
        ID,
        "completed",
        "/v1/completions",
        "hearth-chat",
        "3",
    ]
    assert "--limit" in said.err
    server.routes[f"POST /v1/batches/{ID}/cancel"] = httpx.Response(
        200, json={**BATCH, "status": "cancelling"}
    )
    batches.cancel(server.client(), ID, as_json=False)
    assert capsys.readouterr().out == "cancelling\n"
    with pytest.raises(CliError, match="no batch id"):
        batches.show(server.client(), "../jobs", as_json=False)


def test_save_writes_into_the_directory_and_nowhere_else(
    server: Server, tmp_path: Path, capsys: Captured
) -> None:
    batches.save(server.client(), ID, str(tmp_path), as_json=False)
    path = tmp_path / f"{ID}_output.jsonl"
    assert capsys.readouterr().out == f"{path}\n"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b'{"a": 1}\n'


def test_what_cannot_be_saved_is_told(server: Server, tmp_path: Path) -> None:
    told(server, status="in_progress")
    with pytest.raises(CliError, match="has not ended: in progress"):
        batches.save(server.client(), ID, None, as_json=False)
    told(server, status="cancelled", output_file_id=None)
    with pytest.raises(CliError, match="nothing came of it: it was cancelled"):
        batches.save(server.client(), ID, None, as_json=False)
    told(server)
    with pytest.raises(CliError, match="no directory"):
        batches.save(server.client(), ID, str(tmp_path / "none"), as_json=False)


def test_json_is_all_that_is_printed(server: Server, file: Path, capsys: Captured) -> None:
    batches.submit(server.client(), file, None, and_wait=True, as_json=True)
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == (BATCH, "")
