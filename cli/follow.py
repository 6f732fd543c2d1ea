"""Follows one job: its text to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from cli.client import Client
from cli.output import Status, bar
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


def follow(client: Client, job_id: str, *, is_quiet: bool = False, label: str = "") -> End:
    """Wait for the job's end; unless ``is_quiet``, write its text as it comes. Raises CliError.

    ``label`` stands before everything that is said of it on stderr.
    """
    teller, pieces = _Teller(client, job_id, label), list[str]()
    try:
        for item in client.follow(job_id):
            if isinstance(item, Comment):
                teller.comment(item.text)
                continue
            event = item.json()
            if item.event == "text_delta":
                teller.clear()
                pieces.append(event["text"])
                if not is_quiet:
                    sys.stdout.write(event["text"])
                    sys.stdout.flush()
            elif item.is_terminal:
                return End(event, "".join(pieces))
            else:
                teller.event(item, event)
    finally:
        teller.clear()
    raise AssertionError("a job's events end with a terminal one; this is a bug")


class _Teller:
    """Says what happens to a job that has nothing to show yet."""

    def __init__(self, client: Client, job_id: str, label: str) -> None:
        self._client = client
        self._job_id = job_id
        self._label = label
        self._status = Status()
        self._ends_at_s: float | None = None

    def clear(self) -> None:
        self._status.clear()

    def comment(self, text: str) -> None:
        if text.startswith("queued position="):
            place = text.partition("=")[2]
            said = "next in the queue" if place == "1" else f"number {place} in the queue"
            self._show(said + self._wait())
        elif text.startswith("held reason="):
            self._show("waiting: " + text.partition(" ")[2].partition(" ")[2])

    def event(self, message: Message, event: dict[str, Any]) -> None:
        match message.event:
            case "queued" if event.get("attempt"):
                self._show(f"back in the queue: {event.get('reason') or 'its worker was stopped'}")
            case "loading":
                self._show(f"loading {event['model']}: {event['done']} of {event['total']}", _bar(event))
            case "step_done":
                said = f"step {event['done']} of {event['total']}"
                self._show(said + _left(self._ends_at_s), _bar(event))
            case "held":
                self._show(f"resting: {event['message']}")
            case "started":
                self._status.clear()
                self._ends_at_s = (self._eta() or {}).get("ends_at")
            case "resumed":
                self._status.clear()

    def _show(self, text: str, ahead: str = "") -> None:
        self._status.show(self._label + text, ahead)

    def _wait(self) -> str:
        """When its turn comes, where the server can tell."""
        eta = self._eta()
        return "" if eta is None else f", its turn comes in about {_seconds(eta['starts_at'] - time.time())}"

    def _eta(self) -> dict[str, Any] | None:
        job = self._client.get(f"/v1/jobs/{self._job_id}")
        eta: dict[str, Any] | None = job.get("eta")
        return eta


def _bar(event: dict[str, Any]) -> str:
    return bar(event["done"], event["total"]) + "  "


def _left(ends_at_s: float | None) -> str:
    left_s = 0.0 if ends_at_s is None else ends_at_s - time.time()
    return f", about {_seconds(left_s)} left" if left_s >= 1 else ""


def _seconds(duration_s: float) -> str:
    whole = max(0, round(duration_s))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"
