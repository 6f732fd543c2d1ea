"""``hearth models``: what was found, and why one of them cannot be used."""

from __future__ import annotations

from typing import Any

from cli.client import Client
from cli.output import print_json, print_table, size

_COLUMNS = ("model", "kind", "family", "size", "context", "state")


def ls(client: Client, *, as_json: bool) -> None:
    found = client.get("/v1/models")
    if as_json:
        print_json(found)
        return
    everything = [*found["data"], *found.get("unusable", [])]
    print_table(_COLUMNS, (_row(model) for model in everything), empty="no models found")


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    facts = model["hearth"]
    return (
        model["id"],
        facts["kind"],
        facts["family"],
        size(facts["size_bytes"]),
        str(facts["context"] or ""),
        _state(facts),
    )


def _state(facts: dict[str, Any]) -> str:
    if facts["problem"]:
        return f"cannot be used: {facts['problem']}"
    words = ["on the card" if facts["is_resident"] else "on disk"]
    return ", ".join([*words, "demo"] if facts["is_demo"] else words)
