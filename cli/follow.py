"""Follows one job: its text to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.client import Client
from cli.output import Status, bar
from cli.sse import Comment, Message

_COUNT_EVERY_S = 1.0


@dataclass(slots=True)
class End:
    """How it ended: the terminal event, and before it the text, or how many vectors."""

    event: dict[str, Any]
    text: str
    vectors: int = 0

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


def to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def silently(_: str) -> None:
    """For ``say``: what is printed in the end is the job's record."""


def follow(
    client: Client,
    job_id: str,
    *,
    say: Callable[[str], None] = to_stdout,
    think: Callable[[str], None] | None = None,
    label: str = "",
    eta: dict[str, Any] | None = None,
) -> End:
    """Wait for the job's end; ``say`` its text as it comes. Raises CliError.

    ``think`` is given its thoughts; without it is only told that there are some. ``label`` stands before
    everything that is said of the job on stderr; ``eta`` is what its record last told.
    """
    teller, pieces, vectors = _Teller(client, job_id, label, eta), list[str](), 0
    try:
        for item in client.follow(job_id):
            if isinstance(item, Comment):
                teller.comment(item.text)
                continue
            event = item.json()
            if item.event == "text_delta":
                teller.clear()
                pieces.append(event["text"])
                say(event["text"])
            elif item.event == "reasoning_delta" and think is not None:
                teller.clear()
                think(event["text"])
            elif item.event == "embedded":
                vectors = event["index"] + 1
                teller.embedded(vectors)
            elif item.is_terminal:
                return End(event, "".join(pieces), vectors)
            else:
                teller.event(item, event)
    finally:
        teller.clear()
    raise AssertionError("a job's events end with a terminal one; this is a bug")


class _Teller:
    """Says what happens to a job that has nothing to show yet."""

    def __init__(self, client: Client, job_id: str, label: str, eta: dict[str, Any] | None) -> None:
        self._client = client
        self._job_id = job_id
        self._label = label
        self._status = Status()
        self._eta = _measured(eta)
        self._counted_s = float("-inf")

    def clear(self) -> None:
        self._status.clear()

    def embedded(self, count: int) -> None:
        """Vectors come by hundreds a second: told now and then."""
        if time.monotonic() - self._counted_s >= _COUNT_EVERY_S:
            self._counted_s = time.monotonic()
            self._show(f"{count} embedded")

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
                self._show(said + self._left(), _bar(event))
            case "reasoning_delta" if sys.stderr.isatty():  # in a log it would be noise
                self._show("thinking …")
            case "held":
                self._show(f"resting: {event['message']}")
            case "started" | "resumed":
                self._status.clear()

    def _show(self, text: str, ahead: str = "") -> None:
        self._status.show(self._label + text, ahead)

    def _wait(self) -> str:
        """When its turn comes, where the server can tell."""
        self._eta = _measured(self._client.get(f"/v1/jobs/{self._job_id}").get("eta"))
        return self._until("starts_at", "its turn comes in about {}")

    def _left(self) -> str:
        return self._until("ends_at", "about {} left")

    def _until(self, name: str, words: str) -> str:
        left_s = 0.0 if self._eta is None else self._eta[name] - time.time()
        return ", " + words.format(_seconds(left_s)) if left_s >= 1 else ""


def _measured(eta: dict[str, Any] | None) -> dict[str, Any] | None:
    """A guess of the server's is nothing to tell people."""
    return eta if eta is not None and eta["basis"] == "measured" else None


def _bar(event: dict[str, Any]) -> str:
    return bar(event["done"], event["total"]) + "  "


def _seconds(duration_s: float) -> str:
    whole = max(0, round(duration_s))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"
