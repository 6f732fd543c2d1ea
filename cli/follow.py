"""Follows one job: its text to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from cli.client import Client
from cli.output import Status
from cli.sse import Comment, Message


@dataclass(slots=True)
class End:
    """How it ended: the terminal event, and the text before it."""

    event: dict[str, Any]
    text: str

    @property
    def fault(self) -> str | None:
        """Why there is no whole answer, in one line; None when there is."""
        match self.event["type"]:
            case "finished":
                return None
            case "cancelled":
                return "the job was cancelled"
            case _:
                return str(self.event.get("message", "the job failed"))


def follow(client: Client, job_id: str, *, is_quiet: bool = False) -> End:
    """Wait for the job's end; unless ``is_quiet``, write its text as it comes. Raises CliError."""
    status, pieces = Status(), list[str]()
    try:
        for item in client.follow(job_id):
            if isinstance(item, Comment):
                _tell(status, item.text)
                continue
            event = item.json()
            if item.event == "text_delta":
                status.clear()
                pieces.append(event["text"])
                if not is_quiet:
                    sys.stdout.write(event["text"])
                    sys.stdout.flush()
            elif item.is_terminal:
                return End(event, "".join(pieces))
            else:
                _tell_event(status, item, event)
    finally:
        status.clear()
    raise AssertionError("a job's events end with a terminal one; this is a bug")


def _tell(status: Status, comment: str) -> None:
    if comment.startswith("queued position="):
        place = comment.partition("=")[2]
        status.show("next in the queue" if place == "1" else f"number {place} in the queue")
    elif comment.startswith("held reason="):
        status.show("waiting: " + comment.partition(" ")[2].partition(" ")[2])


def _tell_event(status: Status, message: Message, event: dict[str, Any]) -> None:
    match message.event:
        case "queued" if event.get("attempt"):
            status.show(f"back in the queue: {event.get('reason') or 'its worker was stopped'}")
        case "loading":
            status.show(f"loading {event['model']}: {event['done']} of {event['total']}")
        case "held":
            status.show(f"resting: {event['message']}")
        case "started" | "resumed":
            status.clear()
