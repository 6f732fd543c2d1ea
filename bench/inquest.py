"""What became of every job of a crowd: record, journal and reader on the line must say the same of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.crowd import ENDED, TERMINAL, Errand, events

SAMPLES = 20
"""Jobs that are asked again afterwards, in peace."""
PATIENCE_S = 90.0
"""Jobs that were accepted last have this long to end once there is peace."""


@dataclass(slots=True)
class Verdict:
    """What was found out about all accepted jobs; every list should be empty."""

    states: Counter[str] = field(default_factory=Counter)
    ended_at_s: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Accepted, and without an end."""
    duplicated: list[str] = field(default_factory=list)
    """Ended more than once."""
    contradictions: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    """Failed for another reason than a process that died three times under them."""
    over_cap: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Everything that is wrong, a line each."""
        names = ("lost", "duplicated", "contradictions", "unexplained", "over_cap", "leaks")
        return [f"{name}: {each}" for name in names for each in getattr(self, name)]


def judge(url: str, todo: Sequence[Errand], chance: random.Random) -> Verdict:
    """Wait for every job's end, and hold together what is told of it."""
    verdict = Verdict()
    done = [errand for errand in todo if errand.job_id is not None]
    with httpx.Client(base_url=url, timeout=30) as client:
        for errand in done:
            _judge_one(client, errand, verdict)
        said = [errand for errand in done if errand.kept is not None]
        for errand in chance.sample(said, min(SAMPLES, len(said))):
            _ask_again(client, errand, verdict)
    return verdict


def _judge_one(client: httpx.Client, errand: Errand, verdict: Verdict) -> None:
    record = _ended(client, str(errand.job_id))
    state = record["state"]
    verdict.states[state] += 1
    if state not in ENDED:
        verdict.lost.append(f"{errand.job_id} is {state}, attempt {record['attempt']}")
        return
    verdict.ended_at_s.append(record["ended_at"])
    told = _told(client, str(errand.job_id))
    ends = [event["type"] for event in told if event["type"] in TERMINAL]
    if len(ends) != 1:
        verdict.duplicated.append(f"{errand.job_id} ended {len(ends)} times: {ends}")
    if state == "succeeded" and errand.body["kind"] == "chat":
        errand.kept = _text_of(record)
        verdict.contradictions += _contradictions(errand, told)
    if state != "succeeded" and not _is_spent(record):
        why = f"{record['error']} after {record['strikes']} strikes"
        verdict.unexplained.append(f"{errand.job_id} {state}: {why}")


def _contradictions(errand: Errand, told: Sequence[Mapping[str, Any]]) -> list[str]:
    """What journal, record and the reader on the line say of one text; nothing when they agree."""
    text = "".join(event["text"] for event in told if event["type"] == "text_delta")
    heard = errand.text if errand.follows else text
    if text == errand.kept == heard:
        return []
    return [f"{errand.job_id}: journal {text!r}, record {errand.kept!r}, reader {heard!r}"]


def _is_spent(record: Mapping[str, Any]) -> bool:
    """It failed because processes died under it as often as is allowed."""
    code = (record["error"] or {}).get("code")
    return bool(record["state"] == "failed" and code == "worker_lost" and record["strikes"] >= 3)


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        record: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if record.get("state") in ENDED or time.monotonic() > deadline_s:
            return record
        time.sleep(0.1)


def _told(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        return [event for _, event in events(answer.iter_lines())]


def _text_of(record: Mapping[str, Any]) -> str:
    return "".join(piece["text"] for piece in record["output"] if piece["type"] == "text")


def _ask_again(client: httpx.Client, errand: Errand, verdict: Verdict) -> None:
    """The same job in peace says the same."""
    record = _ended(client, client.post("/v1/jobs", json=errand.body).json()["id"])
    said = _text_of(record)
    if said != errand.kept:
        verdict.contradictions.append(f"{errand.job_id}: in peace {said!r}, in trouble {errand.kept!r}")
