"""``hearth models``: what was found, what it needs on the card, and why one of them cannot be used."""

from __future__ import annotations

import sys
from typing import Any

from cli.client import Client
from cli.errors import JOB_FAILED
from cli.follow import follow, silently, to_stdout
from cli.output import print_json, print_table, size

_COLUMNS = ("model", "kind", "family", "size", "needs", "context", "state")


def ls(client: Client, *, as_json: bool) -> None:
    found = client.get("/v1/models")
    if as_json:
        print_json(found)
        return
    everything = [*found["data"], *found.get("unusable", [])]
    print_table(_COLUMNS, (_row(model) for model in everything), empty="no models found")


def manage(client: Client, action: str, model: str, *, as_json: bool) -> int:
    """Load or unload, and wait for it. Returns the exit status."""
    job = client.post(f"/v1/models/{action}", {"model": model})
    end = follow(client, job["id"], say=silently if as_json else to_stdout)
    if as_json:
        print_json(client.get(f"/v1/jobs/{job['id']}"))
    elif end.fault is None:
        sys.stdout.write(f"{job['model']} is {'on' if action == 'load' else 'off'} the card\n")
    if end.fault is not None:
        sys.stderr.write(f"hearth: {end.fault}\n")
    return 0 if end.fault is None else JOB_FAILED


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    facts = model["hearth"]
    return (
        model["id"],
        facts["kind"],
        facts["family"],
        size(facts["size_bytes"]),
        _needs(facts),
        str(facts["context"] or ""),
        _state(facts),
    )


def _state(facts: dict[str, Any]) -> str:
    if facts["problem"]:
        return f"cannot be used: {facts['problem']}"
    words = ["on the card" if facts["is_resident"] else "on disk"]
    if facts["fits"] is False:
        words.append("too large for the card")
    return ", ".join([*words, "demo"] if facts["is_demo"] else words)


def _needs(facts: dict[str, Any]) -> str:
    """Card memory; an estimate says so by its ``~``."""
    told = size(facts["needs_bytes"])
    return f"~{told}" if facts["needs_basis"] == "estimated" else told
