"""A conversation: what is typed becomes turns or commands, and nothing that goes wrong ends it."""

from __future__ import annotations

import json
import readline
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.ask import Manner, figures, printable
from cli.chat import history_file
from cli.conversation import Conversation
from cli.errors import CliError
from cli.prompt import Prompt
from cli.talk import talk
from tests.cli.server import ANSWER, JOB, JOB_ID, MODEL, Server, event

Captured = pytest.CaptureFixture[str]
Type = Callable[..., None]
EVENTS = f"GET /v1/jobs/{JOB_ID}/events"
OTHER = {**MODEL, "id": "qwen3-4b", "hearth": {**MODEL["hearth"], "is_demo": False}}


@pytest.fixture
def server() -> Server:
    server = Server()
    server.routes["GET /v1/models"] = httpx.Response(200, json={"data": [MODEL, OTHER], "unusable": []})
    server.routes["GET /v1/models/qwen3-4b"] = httpx.Response(200, json=OTHER)
    server.routes[f"POST /v1/jobs/{JOB_ID}/cancel"] = httpx.Response(200, json=JOB)
    return server


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Type:
    """What is typed, line by line; an exception among them is raised; at the end Ctrl-D."""

    def typed(*lines: str | BaseException) -> None:
        left = iter(lines)

        def line(*_: str) -> str:
            given = next(left, EOFError())
            if isinstance(given, str):
                return given
            raise given

        monkeypatch.setattr("builtins.input", line)

    return typed


def asked(server: Server) -> list[list[tuple[str, str]]]:
    """The conversations sent, as (role, content)."""
    return [
        [(message["role"], message["content"]) for message in body["messages"]]
        for request in server.asked
        if request.method == "POST" and request.url.path == "/v1/jobs"
        for body in [json.loads(request.content)]
    ]


def conversation(server: Server, **fields: Any) -> Conversation:
    made = Conversation("hearth-chat", **fields)
    talk(server.client(), made, Manner(), None)
    return made


def test_every_turn_carries_what_was_said_before(server: Server, keys: Type, capsys: Captured) -> None:
    keys("first", "", "second")
    conversation(server, system="Be brief.", options={"seed": 7})
    assert asked(server)[1] == [
        ("system", "Be brief."),
        ("user", "first"),
        ("assistant", "Hello."),
        ("user", "second"),
    ]
    assert server.sent("POST")[1]["seed"] == 7
    assert capsys.readouterr().out == "Hello.\nHello.\n"


def test_a_turn_that_fails_is_taken_back_and_can_be_tried_again(
    server: Server, keys: Type, capsys: Captured
) -> None:
    failed = event(1, type="failed", code="worker_lost", message="its worker died three times")
    streams = [failed, *[b"".join(ANSWER)] * 2]
    server.routes[EVENTS] = lambda _: httpx.Response(200, content=streams.pop(0))
    keys("first", "/retry", "second")
    made = conversation(server)
    assert "its worker died three times" in capsys.readouterr().err
    assert asked(server)[:2] == [[("user", "first")]] * 2
    assert [message["content"] for message in made.messages] == ["first", "Hello.", "second", "Hello."]


def test_an_answer_is_retried_without_the_old_one(server: Server, keys: Type) -> None:
    keys("first", "/retry", "/retry")
    assert len(conversation(server).messages) == 2
    assert asked(server) == [[("user", "first")]] * 3


class _Stopped(httpx.SyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("pieces", "kept"), [(ANSWER[:5], ["Hi", "Hel"]), (ANSWER[:2], [])], ids=["some text", "none"]
)
def test_ctrl_c_stops_the_answer_and_keeps_what_was_seen(
    server: Server, keys: Type, capsys: Captured, pieces: tuple[bytes, ...], kept: list[str]
) -> None:
    server.routes[EVENTS] = lambda _: httpx.Response(200, stream=_Stopped(*pieces))
    keys("Hi", "/save /nowhere/at/all")
    made = conversation(server)
    assert [message["content"] for message in made.messages] == kept
    assert f"/v1/jobs/{JOB_ID}/cancel" in [request.url.path for request in server.asked]
    said = capsys.readouterr().err
    assert "(stopped)" in said
    assert "/nowhere/at/all cannot be written" in said, "the program went on"


def test_ctrl_c_at_the_prompt_says_how_to_leave(server: Server, keys: Type, capsys: Captured) -> None:
    keys(KeyboardInterrupt(), "Hi", "/bye", "never read")
    assert len(conversation(server).messages) == 2
    assert "(Ctrl-D or /bye leaves)" in capsys.readouterr().err


def test_commands_change_what_the_next_turn_is_asked_with(
    server: Server, keys: Type, capsys: Captured
) -> None:
    keys("/system You are a ship.", "/model", "/model qwen3-4b", "Hi", "/new", "/system", "Hi", "/nope")
    conversation(server)
    first, second = server.sent("POST")
    assert first["model"] == second["model"] == "qwen3-4b"
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert [message["role"] for message in second["messages"]] == ["user"]
    said = capsys.readouterr().err
    assert "* hearth-chat\n  qwen3-4b" in said
    assert "there is no /nope" in said


def test_a_text_of_several_lines_is_one_turn(server: Server, keys: Type) -> None:
    keys('"""one', "  two", 'three"""', '"""', "/help", '"""', "a \\", "b", '"""in one line"""')
    conversation(server)
    turns = [content for role, content in asked(server)[-1] if role == "user"]
    assert turns == ["one\n  two\nthree", "/help", "a \nb", "in one line"]


def test_a_conversation_is_kept_and_gone_on_with(
    server: Server, keys: Type, capsys: Captured, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    keys("Hi", f"/save {path}", f"/save {path}")
    conversation(server, system="Be brief.")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "is there already" in capsys.readouterr().err
    keys(f"/load {path}", "Again")
    conversation(server)
    assert [role for role, _ in asked(server)[-1]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"v": 2}', '{"v": 1, "model": "m", "system": null, "messages": [{"role": "tool"}]}']
)
def test_what_is_no_conversation_leaves_this_one_as_it_was(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    made = Conversation("m", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(CliError, match="holds no conversation"):
        made.load(tmp_path / "x")
    assert (made.model, len(made.messages)) == ("m", 1)


def test_what_is_typed_is_kept_for_its_owner_alone(
    keys: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = history_file()
    assert path == tmp_path / "hearth" / "chat-history"
    with Prompt(path, lambda _: []):
        readline.add_history("What is Hearth?")
    assert path.read_text() == "What is Hearth?\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with Prompt(path, lambda _: []):
        assert readline.get_history_item(1) == "What is Hearth?"
    with Prompt(None, lambda _: []):
        assert readline.get_current_history_length() == 0, "without a history file there is no history"


def test_thoughts_are_shown_or_only_told_of(server: Server, keys: Type, capsys: Captured) -> None:
    thought = event(3, type="reasoning_delta", text="hm ", token_ids=[1])
    stream = b"".join((ANSWER[0], ANSWER[3], thought, *ANSWER[4:]))
    server.routes[EVENTS] = lambda _: httpx.Response(200, content=stream)
    keys("Hi", "/thinking", "Hi")
    conversation(server)
    said = capsys.readouterr()
    assert said.out == "Hello.\nHello.\n", "thoughts are no part of the answer"
    assert said.err.count("hm") == 1


def test_what_an_answer_took() -> None:
    job = {"timings": {"queued_ms": 1500.0, "load_ms": 0.0, "run_ms": 2100.0}}
    timings = {"prefill_ms": 100.0, "decode_ms": 2000.0, "first_token_ms": 130.0, "load_ms": 0.0}
    usage = {"prompt_tokens": 50, "completion_tokens": 20, "cached_tokens": 40, "reasoning_tokens": 5}
    assert figures(job, {"usage": usage, "timings": timings}) == (
        "20 tokens (10.0/s), 5 of them thoughts; prompt 50, 40 of them cached (100.0/s); "
        "first token after 0.13 s; queue 1.50 s, run 2.10 s"
    )


def test_words_do_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9b\tc\n") == "a[2Jb\tc\n"
