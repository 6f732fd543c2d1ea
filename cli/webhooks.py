"""``hearth webhooks``: who is told of the ends of a key's jobs, batches and responses."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlencode

from cli.client import Client
from cli.errors import CliError
from cli.output import age, print_json, print_table
from tasks.webhooks.words import EVENTS

_HERE = "/v1/webhook_endpoints"
_COLUMNS = ("id", "name", "state", "age", "url", "events")


def add(
    client: Client, url: str, events: list[str], *, name: str | None, key: str | None, as_json: bool
) -> None:
    """Print the secret of a new endpoint to stdout, once; nobody can show it again."""
    wanted = {"url": url, "event_types": events or None, "name": name, "key": key}
    made = client.post(_HERE, {field: value for field, value in wanted.items() if value is not None})
    if as_json:
        print_json(made)
        return
    sys.stdout.write(made["signing_secret"] + "\n")
    sys.stderr.write(
        f"this is the secret of {made['id']} ({made['name']}), which hears of {_events(made)}; it is shown "
        "this once\n"
    )


def ls(client: Client, *, key: str | None, as_json: bool) -> None:
    found = _all(client, key)
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, map(_row, found), empty="there are no webhooks", clips_last=True)


def revoke(client: Client, name: str, *, key: str | None, as_json: bool) -> None:
    endpoint = _named(client, name, key)
    gone = client.remove(_path(endpoint["id"], key))
    if as_json:
        print_json(gone)
    else:
        sys.stderr.write(f"{endpoint['id']} ({endpoint['name']}) is told nothing any more\n")


def test(client: Client, name: str, event: str, *, key: str | None, as_json: bool) -> int:
    """Send a sample and tell what was answered. The exit status is 0 only if it was a yes."""
    endpoint = _named(client, name, key)
    told = client.post(_path(endpoint["id"], key, "/test"), {"event_type": event})
    if as_json:
        print_json(told)
    else:
        sys.stderr.write(f"{endpoint['name']} was sent {event} and answered {told['status_code']}\n")
    return 0 if 200 <= told["status_code"] < 300 else 1


def secret(client: Client, *, rotate: bool, key: str | None, as_json: bool) -> None:
    """Print what is signed with that goes to addresses which jobs name themselves."""
    told = (
        client.post(_query("/v1/webhook_secret/rotate", key))
        if rotate
        else client.get("/v1/webhook_secret", key=key)
    )
    if as_json:
        print_json(told)
    else:
        sys.stdout.write(told["secret"] + "\n")


def _all(client: Client, key: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get(_HERE, limit=100, after=after, key=key)
        found += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            return found


def _named(client: Client, name: str, key: str | None) -> dict[str, Any]:
    """The endpoint with this id or, where only one has it, this name."""
    found = [endpoint for endpoint in _all(client, key) if name in (endpoint["id"], endpoint["name"])]
    if not found:
        raise CliError(f"there is no webhook {name!r}; `hearth webhooks ls` lists them")
    if len(found) > 1:
        ids = ", ".join(endpoint["id"] for endpoint in found)
        raise CliError(f"{len(found)} webhooks are called {name!r}: name one of {ids}")
    return found[0]


def _path(endpoint_id: str, key: str | None, tail: str = "") -> str:
    return _query(f"{_HERE}/{endpoint_id}{tail}", key)


def _query(path: str, key: str | None) -> str:
    return path if key is None else f"{path}?{urlencode({'key': key})}"


def _row(endpoint: dict[str, Any]) -> tuple[str, ...]:
    state = "gone (410)" if endpoint["disabled"] else ""
    return (
        endpoint["id"],
        endpoint["name"],
        state,
        age(endpoint["created_at"]),
        endpoint["url"],
        _events(endpoint),
    )


def _events(endpoint: dict[str, Any]) -> str:
    asked: list[str] = endpoint["event_types"]
    return "every event" if set(asked) >= set(EVENTS) else ", ".join(asked)
