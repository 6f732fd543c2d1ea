"""``hearth image`` and what ``hearth jobs`` says and saves of pictures."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import image as command
from cli import jobs
from cli.errors import CliError
from cli.files import Place
from cli.image import Wish
from cli.output import bar
from tests.cli.server import JOB, Server, event

Captured = pytest.CaptureFixture[str]


def job_id(number: int) -> str:
    return f"job_{number:040d}"


def picture_job(number: int, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    """The record of a job that draws, as the server tells it."""
    path = f"/v1/jobs/{job_id(number)}/images/0"
    drawn = {
        "type": "image",
        "url": path,
        "media_type": "image/png",
        "size_bytes": 3,
        "seed": number,
    }
    asked = {
        "prompt": "A red circle, (small)!",
        "negative_prompt": "",
        "size": "96x96",
        "steps": 4,
        "seed": number,
        "format": "png",
        "source": None,
    }
    return {
        **JOB,
        "id": job_id(number),
        "kind": "image",
        "queue": "image.tiny",
        "model": "tiny",
        "state": state,
        "usage": None,
        "input": asked,
        "batch": None,
        "eta": None,
        "output": [drawn] if state == "succeeded" else [],
        **more,
    }


def events(number: int, end: dict[str, Any] | None = None) -> bytes:
    return b"".join(
        (
            event(1, type="queued", attempt=0),
            b": queued position=3\n\n",
            event(2, type="started", attempt=1, card="virtual0"),
            event(3, type="loading", model="tiny", done=1, total=3),
            event(4, type="step_done", done=2, total=4),
            event(5, **(end or {"type": "finished", "reason": "stop", "warnings": [], "output": [{}]})),
        )
    )


@pytest.fixture
def server() -> Server:
    """One that draws pictures 1, 2 and 3, and knows no more."""
    made = Server()
    made.routes["POST /v1/jobs"] = httpx.Response(202, json=picture_job(1, "queued"))
    for number in (1, 2, 3):
        path = f"/v1/jobs/{job_id(number)}"
        made.routes[f"GET {path}"] = httpx.Response(200, json=picture_job(number))
        made.routes[f"GET {path}/events"] = httpx.Response(200, content=events(number))
        made.routes[f"GET {path}/images/0"] = httpx.Response(200, content=b"p%d" % number)
        made.routes[f"POST {path}/cancel"] = httpx.Response(200, json=picture_job(number, "cancelled"))
    return made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(server: Server, place: Place | None = None, as_json: bool = False, **options: Any) -> int:
    wish = Wish("A red circle, (small)!", options)
    return command.image(server.client(), wish, place or Place(), as_json=as_json)


def test_a_picture_is_saved_and_its_path_is_all_that_is_printed(
    server: Server, here: Path, capsys: Captured
) -> None:
    assert draw(server, steps=4, seed=1) == 0
    said = capsys.readouterr()
    assert said.out == "a-red-circle-small-1.png\n"
    assert (here / "a-red-circle-small-1.png").read_bytes() == b"p1"
    assert server.sent("POST") == [
        {"kind": "image", "prompt": "A red circle, (small)!", "steps": 4, "seed": 1}
    ]
    assert "number 3 in the queue" in said.err
    assert "loading tiny: 1 of 3" in said.err
    assert "\nstep 2 of 4\n" in said.err


def test_a_terminal_sees_a_bar_in_one_line(
    server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    draw(server)
    said = capsys.readouterr().err
    assert "\r\x1b[K━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  step 2 of 4" in said
    assert "\n" not in said
    assert max(len(line) for line in said.split("\r\x1b[K")) < 40


def test_a_file_that_is_there_is_not_overwritten_unless_it_was_named(server: Server, here: Path) -> None:
    (here / "a-red-circle-small-1.png").write_bytes(b"older")
    draw(server)
    assert (here / "a-red-circle-small-1.png").read_bytes() == b"older"
    assert (here / "a-red-circle-small-1-2.png").read_bytes() == b"p1"
    (here / "mine.png").write_bytes(b"older")
    draw(server, Place("mine.png"))
    assert (here / "mine.png").read_bytes() == b"p1"


def test_many_pictures_have_their_seeds_in_their_names(server: Server, here: Path, capsys: Captured) -> None:
    three = [picture_job(number, "queued", batch="batch_1") for number in (1, 2, 3)]
    server.routes["POST /v1/jobs"] = httpx.Response(202, json={"object": "list", "data": three})
    (here / "out").mkdir()
    assert draw(server, Place("out/"), n=3) == 0
    assert draw(server, Place("out/mine.png"), n=3) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "out/a-red-circle-small-1.png"
    assert sorted(path.name for path in (here / "out").glob("mine*")) == [
        "mine-1.png",
        "mine-2.png",
        "mine-3.png",
    ]
    assert "picture 2 of 3: " in said.err


def test_what_fails_is_said_and_the_others_are_drawn(server: Server, capsys: Captured) -> None:
    three = [picture_job(number, "queued", batch="batch_1") for number in (1, 2, 3)]
    server.routes["POST /v1/jobs"] = httpx.Response(202, json={"object": "list", "data": three})
    path = f"/v1/jobs/{job_id(2)}"
    failed = {"type": "failed", "code": "load_failed", "message": "the UNet is damaged"}
    server.routes[f"GET {path}/events"] = httpx.Response(200, content=events(2, failed))
    server.routes[f"GET {path}"] = httpx.Response(200, json=picture_job(2, "failed"))
    assert draw(server, n=3) == 4
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "hearth: picture 2 of 3: the UNet is damaged" in said.err
    assert "2 of 3 pictures were drawn" in said.err


def test_as_json_the_record_is_printed_with_its_files(server: Server, capsys: Captured) -> None:
    draw(server, Place(), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["id"] == job_id(1)
    assert told["files"] == ["a-red-circle-small-1.png"]


def test_a_source_is_sent_along(server: Server, here: Path) -> None:
    (here / "source.png").write_bytes(b"source")
    wish = Wish("red", {"strength": 0.5}, here / "source.png", here / "source.png")
    command.image(server.client(), wish, Place(), as_json=False)
    (sent,) = server.sent("POST")
    assert base64.b64decode(sent["image"]) == base64.b64decode(sent["mask"]) == b"source"
    with pytest.raises(CliError, match=r"gone\.png cannot be read: No such file"):
        command.image(server.client(), Wish("red", {}, Path("gone.png")), Place(), as_json=False)


def test_interrupting_cancels_all_that_were_asked_for(server: Server) -> None:
    def interrupt(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    two = [picture_job(number, "queued", batch="batch_1") for number in (1, 2)]
    server.routes["POST /v1/jobs"] = httpx.Response(202, json={"object": "list", "data": two})
    server.routes[f"GET /v1/jobs/{job_id(1)}/events"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        draw(server, n=2)
    assert [request.url.path for request in server.asked[-2:]] == [
        f"/v1/jobs/{job_id(2)}/cancel",
        f"/v1/jobs/{job_id(1)}/cancel",
    ]


def test_interrupting_while_they_are_asked_for_cancels_what_was_accepted(server: Server) -> None:
    two = [picture_job(number, "queued", batch="batch_1") for number in (1, 2)]

    def accept(_: httpx.Request) -> httpx.Response:
        signal.raise_signal(signal.SIGINT)  # the jobs are there, and nobody has been told their ids
        return httpx.Response(202, json={"object": "list", "data": two})

    server.routes["POST /v1/jobs"] = accept
    with pytest.raises(KeyboardInterrupt):
        draw(server, n=2)
    assert [request.url.path for request in server.asked[-2:]] == [
        f"/v1/jobs/{job_id(2)}/cancel",
        f"/v1/jobs/{job_id(1)}/cancel",
    ]


def test_a_second_interrupt_does_not_wait_for_a_server_that_does_not_answer(server: Server) -> None:
    def hang(_: httpx.Request) -> httpx.Response:
        for _number in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("it goes on after the second one")

    server.routes["POST /v1/jobs"] = hang
    with pytest.raises(KeyboardInterrupt):
        draw(server, n=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_when_the_server_knows_how_long_it_takes_it_is_said(
    server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    path = f"GET /v1/jobs/{job_id(1)}"
    eta = {"starts_at": 1090.0, "ends_at": 1102.4, "basis": "measured"}
    server.routes[path] = httpx.Response(200, json=picture_job(1, eta=eta))
    draw(server)
    said = capsys.readouterr().err
    assert "number 3 in the queue, its turn comes in about 90 s\n" in said
    assert "step 2 of 4, about 102 s left\n" in said
    server.routes[path] = httpx.Response(200, json=picture_job(1, eta={**eta, "basis": "guessed"}))
    draw(server)
    assert "about" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "number", "word"),
    [("nowhere/x.png", 1, "no directory nowhere"), ("-", 2, "one picture at a time")],
)
def test_a_place_that_will_not_do_is_refused_before_anything_is_drawn(
    server: Server, out: str, number: int, word: str
) -> None:
    with pytest.raises(CliError, match=word):
        draw(server, Place(out), n=number)
    assert server.asked == []


def test_a_picture_goes_into_a_pipe(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    draw(server, Place("-"))
    assert capfdbinary.readouterr().out == b"p1"


def test_a_picture_is_saved_later_by_its_job(server: Server, here: Path, capsys: Captured) -> None:
    jobs.save(server.client(), job_id(2), Place("two.png"), as_json=False)
    assert (here / "two.png").read_bytes() == b"p2"
    assert capsys.readouterr().out == "two.png\n"
    server.routes[f"GET /v1/jobs/{job_id(3)}"] = httpx.Response(200, json=picture_job(3, "running"))
    with pytest.raises(CliError, match="has made no picture: it is running"):
        jobs.save(server.client(), job_id(3), Place(), as_json=False)


def test_a_batch_is_saved_whole(server: Server, capsys: Captured) -> None:
    pages = [
        {"data": [picture_job(3), picture_job(2, "failed")], "has_more": True, "last_id": job_id(2)},
        {"data": [picture_job(1)], "has_more": False, "last_id": job_id(1)},
    ]
    server.routes["GET /v1/jobs"] = lambda _: httpx.Response(200, json=pages.pop(0))
    jobs.save(server.client(), "batch_1", Place(), as_json=True)
    assert json.loads(capsys.readouterr().out) == ["a-red-circle-small-1.png", "a-red-circle-small-3.png"]
    assert server.asked[1].url.params["after"] == job_id(2)


def test_pictures_are_listed_and_shown(server: Server, capsys: Captured) -> None:
    page = {"data": [picture_job(1), JOB], "has_more": False, "last_id": job_id(1)}
    server.routes["GET /v1/jobs"] = httpx.Response(200, json=page)
    jobs.ls(server.client(), {"batch": "batch_1", "limit": 20}, as_json=False)
    head, drawn, said = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert dict(zip(head, drawn, strict=True))["prompt"] == "A red circle, (small)!"
    assert [row[head.index("made")] for row in (drawn, said)] == ["96x96 png", "2 tokens"]
    jobs.show(server.client(), job_id(1), as_json=False)
    shown = capsys.readouterr().out
    assert "96x96 in 4 steps, seed 1" in shown
    assert f"http://hearth.test/v1/jobs/{job_id(1)}/images/0  (3 B)" in shown


def test_a_picture_that_was_waited_for_can_be_saved(server: Server, capsys: Captured) -> None:
    assert jobs.wait(server.client(), job_id(1), as_json=False) == 0
    assert f"hearth jobs save {job_id(1)}" in capsys.readouterr().err


def test_a_bar_is_as_full_as_the_work_is_done() -> None:
    assert [bar(done, 4, width=4) for done in (0, 1, 4)] == ["╌╌╌╌", "━╌╌╌", "━━━━"]
    assert bar(3, 0, width=2) == "╌╌"
