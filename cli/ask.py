"""One question of a chat: submitted, followed, told; cancelled when it is interrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cli.client import Client
from cli.errors import JOB_FAILED, CliError
from cli.follow import End, follow
from cli.interrupt import holding_interrupts
from cli.output import dim, print_json

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Manner:
    """How answers are told. ``thoughts`` are shown dimmed on a terminal, else only that there are some."""

    as_json: bool = False
    shows_thoughts: bool = False
    is_verbose: bool = False


class Interrupted(Exception):
    """Ctrl-C while an answer came; ``text`` is what had come of it. The job is cancelled."""

    def __init__(self, text: str) -> None:
        super().__init__("interrupted")
        self.text = text


@dataclass(slots=True)
class Voice:
    """The answer to stdout, thoughts to stderr, each on lines of its own."""

    manner: Manner
    pieces: list[str] = field(default_factory=list)
    is_thinking: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def say(self, text: str) -> None:
        self.hush()
        self.pieces.append(text)
        if not self.manner.as_json:
            sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()

    def think(self, text: str) -> None:
        self.is_thinking = True
        sys.stderr.write(dim(printable(text)))
        sys.stderr.flush()

    def hush(self) -> None:
        """End of the thoughts, if there were any."""
        if self.is_thinking:
            sys.stderr.write("\n")
            self.is_thinking = False


def ask(client: Client, request: dict[str, Any], manner: Manner) -> End:
    """The answer to ``request``, told as it comes.

    Raises:
        CliError: it was refused, or failed.
        Interrupted: Ctrl-C.
    """
    voice = Voice(manner)
    try:
        with holding_interrupts() as held:
            job = client.post("/v1/jobs", {"kind": "chat", **request})
    except KeyboardInterrupt:
        raise Interrupted("") from None
    for warning in job["warnings"]:
        sys.stderr.write(f"note: {warning}\n")
    try:
        held.release()
        end = follow(client, job["id"], say=voice.say, think=_thinker(voice))
    except KeyboardInterrupt:
        voice.hush()
        client.post(f"/v1/jobs/{job['id']}/cancel")
        raise Interrupted(voice.text) from None
    voice.hush()
    if manner.as_json:
        print_json(client.get(f"/v1/jobs/{job['id']}"))
    elif end.text:
        sys.stdout.write("\n")
        sys.stdout.flush()
    if end.fault is not None:
        raise CliError(end.fault, status=JOB_FAILED)
    if manner.is_verbose:
        sys.stderr.write(dim(figures(client.get(f"/v1/jobs/{job['id']}"), end.event)) + "\n")
    return end


def _thinker(voice: Voice) -> Callable[[str], None] | None:
    return voice.think if voice.manner.shows_thoughts and not voice.manner.as_json else None


def figures(job: dict[str, Any], event: dict[str, Any]) -> str:
    """What an answer took, in one line."""
    usage, timings, record = event["usage"], event["timings"], job["timings"]
    made, prompt, cached = usage["completion_tokens"], usage["prompt_tokens"], usage.get("cached_tokens", 0)
    told = [f"{made} tokens{_rate(made, timings['decode_ms'])}"]
    if usage.get("reasoning_tokens"):
        told[0] += f", {usage['reasoning_tokens']} of them thoughts"
    told.append(f"prompt {prompt}, {cached} of them cached{_rate(prompt - cached, timings['prefill_ms'])}")
    told.append(f"first token after {timings['first_token_ms'] / 1000:.2f} s")
    if timings["load_ms"]:
        told.append(f"loading {timings['load_ms'] / 1000:.1f} s")
    told.append(f"queue {record['queued_ms'] / 1000:.2f} s, run {record['run_ms'] / 1000:.2f} s")
    return "; ".join(told)


def _rate(tokens: int, took_ms: float) -> str:
    return f" ({tokens / took_ms * 1000:.1f}/s)" if took_ms > 0 and tokens > 0 else ""


_UNPRINTABLE = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Without what would steer a terminal: a model's words come from anywhere."""
    return text.translate(_UNPRINTABLE)
