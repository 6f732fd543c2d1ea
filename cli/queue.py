"""``hearth queue``: what waits and runs, and pausing it."""

from __future__ import annotations

import sys
from typing import Any

from cli.client import Client
from cli.output import age, print_json, print_table

_COLUMNS = ("queue", "waiting", "running", "oldest", "state")


def show(client: Client, *, as_json: bool) -> None:
    _print(client.get("/v1/queue"), as_json=as_json)


def pause(client: Client, wanted: dict[str, Any], *, as_json: bool) -> None:
    _print(client.post("/v1/queue/pause", _given(wanted)), as_json=as_json)


def resume(client: Client, wanted: dict[str, Any], *, as_json: bool) -> None:
    _print(client.post("/v1/queue/resume", _given(wanted)), as_json=as_json)


def _given(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value not in (None, False)}


def _print(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    for hold in told["holds"]:
        sys.stdout.write(f"{hold['card']} is held ({hold['reason']}): {hold['message']}\n")
    for pause in told["pauses"]:
        sys.stdout.write(f"{_scope(pause)}: {pause['message']} (for {age(pause['since'])})\n")
    print_table(_COLUMNS, (_row(queue) for queue in told["queues"]), empty="nothing has been asked yet")


def _scope(pause: dict[str, Any]) -> str:
    running = ", the running job rests" if pause["rest_running"] else ""
    return f"paused: {pause['class'] or '*'}.{pause['model'] or '*'}{running}"


def _row(queue: dict[str, Any]) -> tuple[str, ...]:
    return (
        queue["name"],
        str(queue["queued"]),
        str(queue["running"]),
        age(queue["oldest_ready_at"]),
        "paused" if queue["is_paused"] else "",
    )
