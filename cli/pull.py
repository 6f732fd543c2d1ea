"""``hearth models pull`` and ``rm``: packages into the server's models directory, and out of it."""

from __future__ import annotations

import json
import sys
from typing import Any

from cli.client import Client
from cli.errors import FAILED, CliError
from cli.output import Status, bar, print_json, size


def pull(client: Client, name: str, *, as_json: bool) -> None:
    """Bring a package, and show how far it is. Raises CliError with the server's own words.

    With ``as_json`` every line of the server goes to stdout as it is, one object each.
    """
    status, told = Status(), ""
    try:
        for line in client.lines("/api/pull", {"model": name}):
            if as_json:
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
                sys.stdout.flush()
            if "error" in line:
                raise CliError(str(line["error"]), status=FAILED)
            told = str(line.get("status", ""))
            if not as_json:
                _show(status, line, told)
    finally:
        status.clear()
    if told != "success":
        raise CliError(f"{client.url} ended the pull of {name} without a word; pull it again to go on")
    if not as_json:
        sys.stdout.write(f"{name} is here\n")


def _show(status: Status, line: dict[str, Any], told: str) -> None:
    total, done = line.get("total"), line.get("completed")
    if not isinstance(total, int) or not isinstance(done, int):
        if told != "success":
            status.show(told)
        return
    ahead = bar(done, total) + "  "
    if status.is_terminal:
        status.show(f"{size(done)} of {size(total)}", ahead)
    elif done == total:  # a line for every piece would be no log
        status.show(f"{told}: {size(total)}")


def rm(client: Client, name: str, *, as_json: bool) -> None:
    """Remove a model and its package. Raises CliError."""
    client.delete("/api/delete", {"model": name})
    if as_json:
        print_json({"model": name, "deleted": True})
    else:
        sys.stdout.write(f"{name} is removed\n")
