"""What the subcommands print, where, and with which exit status."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from cli import jobs, models, queue
from cli.ask import Manner
from cli.chat import Question, chat
from cli.errors import CliError
from tests.cli.server import ANSWER, JOB, JOB_ID, MODEL, Broken, Server, event

Captured = pytest.CaptureFixture[str]
QUESTION = Question(None, None, {})


@pytest.fixture
def server() -> Server:
    return Server()


def events_of(server: Server, *pieces: bytes) -> None:
    server.routes[f"GET /v1/jobs/{JOB_ID}/events"] = httpx.Response(200, content=b"".join(pieces))


def test_chat_streams_the_answer_to_stdout_and_the_rest_to_stderr(server: Server, capsys: Captured) -> None:
    chat(server.client(), QUESTION, "Hi")
    said = capsys.readouterr()
    assert said.out == "Hello.\n"
    assert "number 3 in the queue" in said.err
    assert "the card is at 81 C" in said.err


def test_chat_asks_the_first_model_with_the_given_options(server: Server) -> None:
    chat(server.client(), Question(None, "Be brief.", {"seed": 7}), "Hi")
    (body,) = server.sent("POST")
    assert body == {
        "kind": "chat",
        "model": "hearth-chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "seed": 7,
    }
    assert server.asked[0].headers["authorization"] == "Bearer key"


def test_chat_as_json_prints_the_job_only(server: Server, capsys: Captured) -> None:
    chat(server.client(), QUESTION, "Hi", Manner(as_json=True))
    assert json.loads(capsys.readouterr().out) == JOB


def test_chat_reads_what_is_piped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    chat(server.client(), QUESTION, None)
    assert server.sent("POST")[0]["messages"][-1]["content"] == "from a pipe"


def test_chat_with_nothing_to_ask_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(CliError, match="nothing was asked"):
        chat(server.client(), QUESTION, None)


def test_chat_without_any_model_says_where_to_look(server: Server) -> None:
    server.routes["GET /v1/models"] = httpx.Response(200, json={"data": []})
    with pytest.raises(CliError, match="hearth models ls"):
        chat(server.client(), QUESTION, "Hi")


def test_an_interrupted_chat_cancels_its_job(server: Server) -> None:
    def interrupt(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.routes[f"GET /v1/jobs/{JOB_ID}/events"] = interrupt
    server.routes[f"POST /v1/jobs/{JOB_ID}/cancel"] = httpx.Response(200, json=JOB)
    with pytest.raises(KeyboardInterrupt):
        chat(server.client(), QUESTION, "Hi")
    assert server.asked[-1].url.path.endswith("/cancel")


def test_a_broken_stream_goes_on_behind_the_last_event(server: Server, capsys: Captured) -> None:
    streams = [
        httpx.Response(200, stream=Broken(*ANSWER[:5], b"id: 4-0\nevent: text")),
        httpx.Response(200, content=b"".join(ANSWER[5:])),
    ]
    server.routes[f"GET /v1/jobs/{JOB_ID}/events"] = lambda _: streams.pop(0)
    assert jobs.wait(server.client(), JOB_ID, as_json=False) == 0
    assert capsys.readouterr().out == "Hello.\n"
    assert server.asked[-1].headers["last-event-id"] == "3-0"


def test_a_stream_that_breaks_for_good_is_given_up(server: Server) -> None:
    server.routes[f"GET /v1/jobs/{JOB_ID}/events"] = lambda _: httpx.Response(200, stream=Broken())
    with pytest.raises(CliError, match=f"hearth jobs wait {JOB_ID}"):
        jobs.wait(server.client(), JOB_ID, as_json=False)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (event(9, type="failed", code="load_failed", message="the model is damaged"), "the model is damaged"),
        (event(9, type="cancelled", reason="requested"), "the job was cancelled"),
        (event(9, type="expired", message="the deadline passed"), "the deadline passed"),
    ],
    ids=["failed", "cancelled", "expired"],
)
def test_waiting_for_a_job_that_does_not_succeed_is_status_4(
    server: Server, capsys: Captured, end: bytes, told: str
) -> None:
    events_of(server, *ANSWER[:5], end)
    assert jobs.wait(server.client(), JOB_ID, as_json=False) == 4
    said = capsys.readouterr()
    assert said.out == "Hel\n"
    assert told in said.err


def test_vectors_are_counted_and_their_address_is_told(server: Server, capsys: Captured) -> None:
    vectors = [event(n + 3, type="embedded", index=n, vector="AACAPw==", prompt_tokens=3) for n in range(500)]
    events_of(server, *ANSWER[:4], *vectors, event(999, type="finished", reason="stop"))
    assert jobs.wait(server.client(), JOB_ID, as_json=False) == 0
    said = capsys.readouterr().err
    assert f"500 vectors are there:  GET /v1/jobs/{JOB_ID}/embeddings" in said
    assert said.count("embedded") <= 3, "now and then, not for each"
    url = f"/v1/jobs/{JOB_ID}/embeddings"
    made = {"type": "embeddings", "url": url, "count": 500, "dimensions": 384}
    job = {**JOB, "kind": "embed", "output": [made], "usage": {**JOB["usage"], "completion_tokens": 0}}
    server.routes[f"GET /v1/jobs/{JOB_ID}"] = httpx.Response(200, json=job)
    jobs.show(server.client(), JOB_ID, as_json=False)
    shown = capsys.readouterr().out
    assert f"{url}  (500 of 384 numbers)" in shown
    assert "tokens     5 in\n" in shown


def test_jobs_are_listed_as_tabs_when_piped_and_as_sent_with_json(server: Server, capsys: Captured) -> None:
    page = {"data": [JOB], "has_more": True, "last_id": JOB_ID}
    server.routes["GET /v1/jobs"] = httpx.Response(200, json=page)
    jobs.ls(server.client(), {"state": "succeeded", "model": None, "limit": 1}, as_json=False)
    said = capsys.readouterr()
    head, row = said.out.splitlines()
    assert head.split("\t")[:2] == ["id", "state"]
    assert row.split("\t")[:3] == [JOB_ID, "succeeded", "hearth-chat"]
    assert "there are more" in said.err
    assert dict(server.asked[-1].url.params) == {"state": "succeeded", "limit": "1"}
    jobs.ls(server.client(), {"limit": 1}, as_json=True)
    assert json.loads(capsys.readouterr().out) == page


def test_a_job_is_shown_with_its_text_and_its_fault(server: Server, capsys: Captured) -> None:
    jobs.show(server.client(), JOB_ID, as_json=False)
    assert "Hello." in capsys.readouterr().out
    failed = {**JOB, "state": "failed", "error": {"code": "load_failed", "message": "damaged"}, "output": []}
    server.routes[f"GET /v1/jobs/{JOB_ID}"] = httpx.Response(200, json=failed)
    jobs.show(server.client(), JOB_ID, as_json=False)
    assert "damaged (load_failed)" in capsys.readouterr().out


def test_cancelling_tells_what_came_of_it(server: Server, capsys: Captured) -> None:
    path = f"POST /v1/jobs/{JOB_ID}/cancel"
    server.routes[path] = httpx.Response(200, json={**JOB, "state": "running"})
    jobs.cancel(server.client(), JOB_ID, as_json=False)
    server.routes[path] = httpx.Response(200, json={**JOB, "state": "cancelled"})
    jobs.cancel(server.client(), JOB_ID, as_json=False)
    assert capsys.readouterr().out == "it stops at its next step\ncancelled\n"


def test_what_is_no_job_id_is_not_sent(server: Server) -> None:
    with pytest.raises(CliError, match="is no job id"):
        jobs.show(server.client(), "../../ready", as_json=False)
    assert server.asked == []


def test_models_are_listed_with_what_is_wrong_with_them(server: Server, capsys: Captured) -> None:
    broken = {"id": "half", "hearth": {**MODEL["hearth"], "problem": "model.safetensors is missing"}}
    server.routes["GET /v1/models"] = httpx.Response(200, json={"data": [MODEL], "unusable": [broken]})
    models.ls(server.client(), as_json=False)
    rows = capsys.readouterr().out.splitlines()
    assert rows[1] == "hearth-chat\tchat\tqwen3\t4 MiB\t~6 MiB\t511\ton the card, demo"
    assert rows[2].endswith("cannot be used: model.safetensors is missing")


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx.Response(404, json={"error": {"message": "there is no job x"}}), "there is no job x"),
        (httpx.Response(401, json={"error": {"message": "wants its key"}}), "HEARTH_API_KEY"),
        (
            httpx.Response(429, json={"error": {"message": "full"}}, headers={"retry-after": "7"}),
            r"full \(try again in 7 s\)",
        ),
        (httpx.Response(502, text="<html>"), "is that a Hearth"),
        (httpx.Response(200, text="<html>"), "is that a Hearth"),
    ],
    ids=["404", "401", "429", "502", "not json"],
)
def test_refusals_are_one_line(server: Server, response: httpx.Response, told: str) -> None:
    server.routes[f"GET /v1/jobs/{JOB_ID}"] = response
    with pytest.raises(CliError, match=told) as refusal:
        jobs.show(server.client(), JOB_ID, as_json=False)
    assert "\n" not in refusal.value.message


QUEUE = {
    "queued": 3,
    "running": 1,
    "queues": [
        {
            "name": "chat.hearth-chat",
            "class": "chat",
            "model": "hearth-chat",
            "queued": 3,
            "running": 1,
            "oldest_ready_at": None,
            "is_paused": True,
        }
    ],
    "holds": [{"card": "virtual-0", "reason": "thermal", "message": "81 C", "since": 1_795_000_000.0}],
    "pauses": [
        {
            "class": "chat",
            "model": None,
            "message": "dusting",
            "since": 1_795_000_000.0,
            "rest_running": True,
        }
    ],
}


def test_the_queue_shows_holds_pauses_and_what_waits(server: Server, capsys: Captured) -> None:
    server.routes["GET /v1/queue"] = httpx.Response(200, json=QUEUE)
    queue.show(server.client(), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "virtual-0 is held (thermal): 81 C"
    assert lines[1].startswith("paused: chat.*, the running job rests: dusting (for ")
    assert lines[3].split("\t") == ["chat.hearth-chat", "3", "1", "", "paused"]


def test_pausing_and_resuming_send_only_what_was_given(server: Server, capsys: Captured) -> None:
    for what in ("pause", "resume"):
        server.routes[f"POST /v1/queue/{what}"] = httpx.Response(200, json=QUEUE)
    asked = {"class": None, "model": "hearth-chat", "rest_running": False, "message": None}
    queue.pause(server.client(), asked, as_json=True)
    assert json.loads(capsys.readouterr().out) == QUEUE
    queue.resume(server.client(), {"class": None, "model": None}, as_json=True)
    assert server.sent("POST") == [{"model": "hearth-chat"}, {}]


@pytest.mark.parametrize(("action", "told"), [("load", "on"), ("unload", "off")])
def test_a_model_is_loaded_and_waited_for(server: Server, capsys: Captured, action: str, told: str) -> None:
    server.routes[f"POST /v1/models/{action}"] = httpx.Response(202, json={**JOB, "kind": "model"})
    events_of(server, event(1, type="loading", model="hearth-chat", done=1, total=1), ANSWER[-1])
    assert models.manage(server.client(), action, "hearth", as_json=False) == 0
    assert capsys.readouterr().out == f"hearth-chat is {told} the card\n"
    assert server.sent("POST") == [{"model": "hearth"}]
