"""``hearth chat``: one question, or a conversation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from cli.client import Client
from cli.errors import CliError
from cli.follow import End, follow
from cli.output import print_json

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Question:
    """What every turn is asked with; ``options`` are fields of the request."""

    model: str | None
    system: str | None
    options: dict[str, Any]


def chat(client: Client, question: Question, prompt: str | None, *, as_json: bool) -> None:
    """One answer to ``prompt``, or to stdin when it is piped; else turn after turn. Raises CliError."""
    model = question.model or _first_model(client)
    messages: Messages = [{"role": "system", "content": question.system}] if question.system else []
    if prompt is None and sys.stdin.isatty():
        _converse(client, question, model, messages)
        return
    text = sys.stdin.read().strip() if prompt is None else prompt
    if not text:
        raise CliError('nothing was asked. Try:  hearth chat "What is Hearth?"', status=2)
    messages.append({"role": "user", "content": text})
    _ask(client, {"model": model, "messages": messages, **question.options}, as_json=as_json)


def _converse(client: Client, question: Question, model: str, messages: Messages) -> None:
    sys.stderr.write(f"talking to {model}; an empty line or Ctrl-D ends it\n")
    while text := _line():
        messages.append({"role": "user", "content": text})
        try:
            end = _ask(client, {"model": model, "messages": messages, **question.options}, as_json=False)
            messages.append({"role": "assistant", "content": end.text})
        except CliError as error:  # one question gone wrong does not end the conversation
            sys.stderr.write(f"hearth: {error.message}\n")
            messages.pop()
        except KeyboardInterrupt:
            sys.stderr.write("(cancelled)\n")
            messages.pop()


def _line() -> str:
    try:
        import readline  # noqa: F401 - gives input() its history and arrow keys

        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        return ""


def _ask(client: Client, request: dict[str, Any], *, as_json: bool) -> End:
    """Submit, follow, print. Whoever interrupts it does not want the answer: the job is cancelled."""
    job = client.post("/v1/jobs", {"kind": "chat", **request})
    for warning in job["warnings"]:
        sys.stderr.write(f"note: {warning}\n")
    try:
        end = follow(client, job["id"], is_quiet=as_json)
    except KeyboardInterrupt:
        client.post(f"/v1/jobs/{job['id']}/cancel")
        raise
    if as_json:
        print_json(client.get(f"/v1/jobs/{job['id']}"))
    elif end.text:
        sys.stdout.write("\n")
    if end.fault is not None:
        raise CliError(end.fault)
    return end


def _first_model(client: Client) -> str:
    found = client.get("/v1/models")
    usable = [model for model in found["data"] if model["hearth"]["kind"] == "chat"]
    if not usable:
        raise CliError(
            "there is no model to talk to; what was found, and what is wrong with it:  hearth models ls"
        )
    return str(usable[0]["id"])
