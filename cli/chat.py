"""``hearth chat``: one question, or a conversation."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.ask import Interrupted, Manner, Messages, ask
from cli.client import Client
from cli.conversation import Conversation, chat_models
from cli.errors import USAGE, CliError


@dataclass(frozen=True, slots=True)
class Question:
    """What every turn is asked with; ``options`` are fields of the request."""

    model: str | None
    system: str | None
    options: dict[str, Any]


def chat(
    client: Client,
    question: Question,
    prompt: str | None,
    manner: Manner = Manner(),
    history: Path | None = None,
) -> None:
    """One answer to ``prompt``, or to stdin when it is piped; else turn after turn.

    ``history`` is the file that keeps what was typed; None keeps nothing.

    Raises:
        CliError: the one question was refused, or failed.
        KeyboardInterrupt: it was interrupted.
    """
    model = question.model or first_model(client)
    if prompt is None and sys.stdin.isatty():
        from cli.talk import talk

        talk(client, Conversation(model, question.system, question.options), manner, history)
        return
    text = sys.stdin.read().strip() if prompt is None else prompt
    if not text:
        raise CliError('nothing was asked. Try:  hearth chat "What is Hearth?"', status=USAGE)
    messages: Messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": text})
    try:
        ask(client, {"model": model, "messages": messages, **question.options}, manner)
    except Interrupted:
        raise KeyboardInterrupt from None


def history_file() -> Path:
    """Where what is typed is kept: in the user's state directory, as the XDG base directories have it."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "hearth" / "chat-history"


def first_model(client: Client) -> str:
    """The first that chats, demo models last, as the server itself chooses. Raises CliError."""
    usable = chat_models(client)
    if not usable:
        raise CliError(
            "there is no model to talk to; what was found, and what is wrong with it:  hearth models ls"
        )
    return str(min(usable, key=lambda model: model["hearth"]["is_demo"])["id"])
