"""A conversation: what was said, with which model, and how it is kept in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.ask import Messages
from cli.client import Client
from cli.errors import CliError

_VERSION = 1
_ROLES = ("user", "assistant")


@dataclass(slots=True)
class Conversation:
    """``messages`` alternate between user and assistant; the system's word stands by itself."""

    model: str
    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    messages: Messages = field(default_factory=list)

    def request(self) -> dict[str, Any]:
        before: Messages = [{"role": "system", "content": self.system}] if self.system else []
        return {"model": self.model, "messages": before + self.messages, **self.options}

    def asked(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def answered(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> str | None:
        """The last question, taken out with what was answered; None when nothing was asked yet."""
        while self.messages:
            last = self.messages.pop()
            if last["role"] == "user":
                return str(last["content"])
        return None

    def save(self, path: Path) -> None:
        """Write it, readable by its owner alone; an existing file is never replaced. Raises CliError."""
        kept = {"v": _VERSION, "model": self.model, "system": self.system, "messages": self.messages}
        text = json.dumps(kept, ensure_ascii=False, indent=2) + "\n"
        try:
            descriptor = os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise CliError(f"{path} is there already: choose another name") from None
        except OSError as error:
            raise CliError(f"{path} cannot be written: {error.strerror}") from None

    def load(self, path: Path) -> None:
        """Go on with the one that ``path`` keeps. Raises CliError; this one is then as it was."""
        try:
            kept = json.loads(path.expanduser().read_text("utf-8"))
        except OSError as error:
            raise CliError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise CliError(f"{path} holds no conversation") from None
        if not _is_conversation(kept):
            raise CliError(f"{path} holds no conversation that this hearth knows")
        self.model, self.system, self.messages = kept["model"], kept["system"], kept["messages"]


def _is_conversation(kept: Any) -> bool:
    return (
        isinstance(kept, dict)
        and kept.get("v") == _VERSION
        and isinstance(kept.get("model"), str)
        and isinstance(kept.get("system"), str | None)
        and isinstance(kept.get("messages"), list)
        and all(
            isinstance(message, dict)
            and message.get("role") in _ROLES
            and isinstance(message.get("content"), str)
            for message in kept["messages"]
        )
    )


def chat_models(client: Client) -> list[dict[str, Any]]:
    """The usable models that chat."""
    return [model for model in client.get("/v1/models")["data"] if model["hearth"]["kind"] == "chat"]
