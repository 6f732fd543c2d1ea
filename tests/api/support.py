"""What the tests of this room share: a published board, and a worker without models or a card."""

from __future__ import annotations

import json
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import redis

from config.settings import Settings
from tasks import board, keys
from tasks.artifacts import ArtifactStore
from tasks.board import (
    Catalog,
    Embedding,
    Heartbeat,
    Model,
    Pictures,
    PictureSize,
    Resident,
    Residents,
    Telemetry,
)
from tasks.claim import Claim, claimed
from tasks.connection import connect
from tasks.engines import Verdict
from tasks.errors import ContextTooLong, WorkerLost
from tasks.events import (
    Alternative,
    Delta,
    Embedded,
    Finished,
    Loading,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
)
from tasks.jobs import ChatJob, EmbedJob, FinishReason, ImageJob, JobId, ModelJob
from tasks.made import Made
from tasks.ownership import take_card
from tests.api import painting

CARD = "virtual0"
TINY = Model(
    id="tiny-chat",
    kind="chat",
    directory="/models/tiny-chat",
    size_bytes=1_000_000,
    created_at_s=1_760_000_000,
    context=512,
    longest_token_bytes=8,
    aliases=("tiny", "org/Tiny-Chat"),
    family="qwen2",
    is_demo=True,
    knows_tools=True,
    knows_thinking=True,
)
BROKEN = Model(
    id="broken",
    kind="chat",
    directory="/models/broken",
    size_bytes=10,
    created_at_s=1_760_000_001,
    problem="the post graph is missing: download it again",
)
PICTURES = Model(
    id="pictures",
    kind="image",
    directory="/models/p",
    size_bytes=10,
    created_at_s=1_760_000_002,
    aliases=("org/Pictures",),
    family="sd15-lcm",
    is_demo=True,
    pictures=Pictures((PictureSize(64, 64), PictureSize(64, 96)), (1, 2, 4), 4, from_pictures=True),
)
TEXTS = Model(
    id="texts",
    kind="embed",
    directory="/models/texts",
    size_bytes=10,
    created_at_s=1_760_000_003,
    context=512,
    family="bert",
    embedding=Embedding(3, (2,), prompts=("query",)),
)
"""Not among those that are published by default: most houses have none."""


def publish(client: redis.Redis, *models: Model) -> None:
    """What the monitor and the card's process publish in a house that is well."""
    now_ms = time.time_ns() // 1_000_000
    client.set(keys.CATALOG, board.encode(Catalog(now_ms, models or (TINY, BROKEN, PICTURES))))
    client.sadd(keys.CARDS, CARD)
    resident = Resident("tiny-chat", 900_000, now_ms, context=512)
    residents = Residents(1, CARD, "Virtual AX650N", "0", "", True, 7_381_975_040, (resident,))
    client.set(keys.residents(CARD), board.encode(residents))
    client.set(keys.telemetry(CARD), board.encode(Telemetry(now_ms, temperature_c=41.5)))
    client.set(keys.heartbeat(CARD), board.encode(Heartbeat(now_ms, pid=1)))
    client.set(keys.MONITOR, now_ms)


@dataclass
class StandIn:
    """Claims queued jobs as a worker does, and answers by what the last message says.

    ``say a|b|c`` tells these pieces, ``slow N`` tells N pieces 20 ms apart, ``burst N`` tells them as fast as
    it can, ``sleep S`` says nothing for so long, ``wait`` goes on until it is told to stop, ``too long`` and
    ``lost`` fail; what ``make`` makes tells just those pieces; the rest is echoed. Pictures: ``painting``.
    """

    settings: Settings
    paused: bool = False
    seen: list[JobId] = field(default_factory=list)
    _taking: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, threads: int = 4) -> None:
        self._client = connect(self.settings)
        self._owner = take_card(CARD, self._client, self.settings)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._client.close()

    def pause(self) -> None:
        """Take no job from now on: one that is submitted after this call waits for ``resume``."""
        with self._taking:
            self.paused = True

    def resume(self) -> None:
        self.paused = False

    def _work(self) -> None:
        while not self._stop.is_set():
            with ExitStack() as taken:
                claim = self._take(taken)
                if claim is not None:
                    self._answer(claim)
                    continue
            time.sleep(0.005)

    def _take(self, taken: ExitStack) -> Claim | None:
        """The oldest job as a claim that ends with ``taken``; None while paused or when nothing waits."""
        # Looking and taking are one act: a thread that had looked before a pause would take a job after it.
        with self._taking:
            ids: list[Any] = [] if self.paused else list(self._client.zrange(keys.READY, 0, 0))
            if not ids:
                return None
            job_id = JobId(ids[0].decode())
            claim = taken.enter_context(claimed(job_id, self._owner))
            if claim is not None:
                self.seen.append(job_id)
            return claim

    def _answer(self, claim: Claim) -> None:
        if isinstance(claim.job, ImageJob):
            painting.paint(claim, claim.job, ArtifactStore(self.settings.data_dir), self._stop)
        elif isinstance(claim.job, EmbedJob):
            _embed(claim, claim.job)
        elif isinstance(claim.job, ModelJob):
            claim.append(Finished(FinishReason.STOP, Usage(0, 0), Timings()))
        elif isinstance(claim.job, ChatJob):
            self._say(claim, claim.job)
        else:
            raise TypeError(f"this worker has nothing for {claim.job.kind} jobs")

    def _say(self, claim: Claim, job: ChatJob) -> None:
        asked = job.messages[-1].content if job.raw is None else job.raw.text
        order, _, rest = asked.partition(" ")
        made, said = 0, Made()
        if asked == "too long":
            raise ContextTooLong("the prompt has 600 tokens, the context 512", param="messages")
        if asked == "lost":
            raise WorkerLost("the worker process died under this job more often than allowed")
        if order == "sleep":
            time.sleep(float(rest))
        if order == "load":
            for done in (1, 2, 3):
                claim.append(Loading(job.model, done, 3))
                time.sleep(0.05)
        for made, piece in enumerate(self._pieces(order, rest, asked), start=1):
            verdict = claim.signals.between_steps()
            if verdict is not Verdict.GO_ON or self._stop.is_set():
                break
            delta = _delta(piece, made, job, len(said.calls))
            said.add(delta)
            claim.append(delta)
        else:
            reason = FinishReason.LENGTH if order == "length" else FinishReason.STOP
            reason = FinishReason.TOOL_CALLS if said.calls else reason
            usage = Usage(len(asked), made, cached_tokens=2, reasoning_tokens=len(said.reasoning))
            warnings = ("the end is near",) if order == "make" else ()
            claim.append(Finished(reason, usage, Timings(first_token_ms=1.0), warnings=warnings))

    def _pieces(self, order: str, rest: str, asked: str) -> Iterator[Any]:
        makers: dict[str, Callable[[], Iterator[Any]]] = {
            "make": lambda: iter(json.loads(rest)),
            "say": lambda: iter(rest.split("|")),
            "burst": lambda: (f"{n} " for n in range(int(rest))),
            "slow": lambda: self._spaced(int(rest)),
            "wait": lambda: self._spaced(10_000),
        }
        return makers[order]() if order in makers else iter([asked])

    def _spaced(self, count: int) -> Iterator[str]:
        for n in range(count):
            if self._stop.is_set():
                return
            yield f"{n} "
            time.sleep(0.02)


def _embed(claim: Claim, job: EmbedJob) -> None:
    """Every text becomes (its length, its place, 0.25), as long as ``too long`` is not among them."""
    for index, text in enumerate(job.inputs):
        if text == "too long" and not job.truncate:
            raise ContextTooLong(f"input {index} has 600 tokens", param=f"input[{index}]")
        data = struct.pack("<3f", len(text), index, 0.25)
        claim.append(Embedded(index, b64encode(data).decode(), len(text)))
    warnings = ("1 of them was cut",) if "too long" in job.inputs else ()
    used = Usage(sum(map(len, job.inputs)), 0)
    claim.append(Finished(FinishReason.STOP, used, Timings(load_ms=2.0), warnings=warnings))


def _delta(piece: Any, made: int, job: ChatJob, calls: int) -> Delta:
    """What a stand-in tells as its ``made``-th token."""
    kind, value = next(iter(piece.items())) if isinstance(piece, dict) else ("say", piece)
    if kind == "think":
        return ReasoningDelta(value, (made,))
    if kind == "call":
        return ToolCall(calls, f"call_{calls}", value[0], value[1], (made,))
    if job.sampling.logprobs is None:
        return TextDelta(value, (made,))
    others = tuple(Alternative(f"o{n}", (111, 48 + n), -2.0 - n) for n in range(job.sampling.logprobs))
    chosen = Alternative(value, tuple(value.encode()), -0.5)
    return TextDelta(value, (made,), (TokenLogprob(chosen, others),))


def make(*pieces: dict[str, Any]) -> str:
    """What a user says to be told just this: ``{"think": …}``, ``{"say": …}``, ``{"call": [name, json]}``."""
    return "make " + json.dumps(pieces)


def ask(text: str = "hello", /, **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "tiny-chat", "messages": [{"role": "user", "content": text}], **fields}


def chunks(stream: str) -> list[str]:
    """What a stream says beside comments: the ``data:`` of every event."""
    lines = stream.split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def comments(stream: str) -> list[str]:
    return [line.removeprefix(": ") for line in stream.split("\n") if line.startswith(": ")]


def until(condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
    """Wait until ``condition`` holds; fail when it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
