"""``hearth batches``: submit a file of requests, list, show, wait, cancel, save what came of it."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.errors import CliError
from cli.output import Status, age, bar, print_json, print_table

ENDPOINT = "/v1/chat/completions"
POLL_S = 1.0
_COLUMNS = ("id", "status", "endpoint", "model", "done", "failed", "of", "age")
_ENDS = ("completed", "failed", "expired", "cancelled")
_FAULTS_SHOWN = 10


def submit(client: Client, path: Path, endpoint: str | None, *, and_wait: bool, as_json: bool) -> int:
    """Send the file and make a batch of it; the exit status."""
    try:
        with path.open("rb") as data:
            endpoint = endpoint or _endpoint_of(data.readline())
            data.seek(0)
            file = client.upload("/v1/files", path.name, data, purpose="batch")
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", status=2) from None
    order = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
    batch = client.post("/v1/batches", order)
    if and_wait:
        if not as_json:
            sys.stderr.write(f"{batch['id']}; it goes on without you: Ctrl-C only ends the waiting\n")
        return wait(client, batch["id"], as_json=as_json)
    if as_json:
        print_json(batch)
    else:
        sys.stdout.write(f"{batch['id']}\n")
        sys.stderr.write(f"follow it with:  hearth batches wait {batch['id']}\n")
    return 0


def wait(client: Client, batch_id: str, *, as_json: bool) -> int:
    """0 when every request of the batch was answered, else 1."""
    status = Status()
    batch = _batch(client, batch_id)
    while batch["status"] not in _ENDS:
        if not as_json:
            counts = batch["request_counts"]
            status.show(_standing(batch), f"{bar(counts['completed'] + counts['failed'], counts['total'])} ")
        time.sleep(POLL_S)
        batch = _batch(client, batch_id)
    status.clear()
    if as_json:
        print_json(batch)
    else:
        _tell_end(batch)
    return 0 if batch["status"] == "completed" and not batch["request_counts"]["failed"] else 1


def ls(client: Client, limit: int, *, as_json: bool) -> None:
    page = client.get("/v1/batches", limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(_COLUMNS, (_row(batch) for batch in page["data"]), empty="no batches")
    if page["has_more"]:
        sys.stderr.write("there are more: --limit\n")


def show(client: Client, batch_id: str, *, as_json: bool) -> None:
    batch = _batch(client, batch_id)
    if as_json:
        print_json(batch)
        return
    for name, text in _facts(batch):
        sys.stdout.write(f"{name:<10} {text}\n")


def cancel(client: Client, batch_id: str, *, as_json: bool) -> None:
    batch = client.post(f"/v1/batches/{_checked(batch_id)}/cancel")
    if as_json:
        print_json(batch)
    else:
        sys.stdout.write(f"{batch['status']}\n")


def save(client: Client, batch_id: str, out: str | None, *, as_json: bool) -> None:
    """Save the answers, and what got none, into a directory; ``-`` is stdout, for the answers alone."""
    batch = _batch(client, batch_id)
    if batch["status"] not in _ENDS:
        raise CliError(f"it has not ended: {_standing(batch)}")
    named = [batch[which] for which in ("output_file_id", "error_file_id") if batch[which]]
    if not named:
        raise CliError(f"nothing came of it: it {_was(batch)}")
    if out == "-":
        if batch["output_file_id"] is None:
            raise CliError("no request was answered; --out DIRECTORY saves what went wrong")
        client.download_to(f"/v1/files/{batch['output_file_id']}/content", sys.stdout.buffer)
        return
    directory = Path(out or ".")
    if not directory.is_dir():
        raise CliError(f"there is no directory {directory}", status=2)
    saved = [_save(client, file_id, directory) for file_id in named]
    if as_json:
        print_json(saved)
    else:
        sys.stdout.write("".join(f"{path}\n" for path in saved))


def _save(client: Client, file_id: str, directory: Path) -> str:
    """Whole, or not at all; the path."""
    path = directory / Path(client.get(f"/v1/files/{file_id}")["filename"]).name
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            client.download_to(f"/v1/files/{file_id}/content", file)
        unfinished.replace(path)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return str(path)


def _endpoint_of(line: bytes) -> str:
    """What the first line names; the server says what is wrong with a line that names nothing."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["url"])
    return ENDPOINT


def _checked(batch_id: str) -> str:
    if not batch_id.replace("_", "").isalnum():
        raise CliError(f"{batch_id!r} is no batch id; they look like batch_0123…")
    return batch_id


def _batch(client: Client, batch_id: str) -> dict[str, Any]:
    batch: dict[str, Any] = client.get(f"/v1/batches/{_checked(batch_id)}")
    return batch


def _row(batch: dict[str, Any]) -> tuple[str, ...]:
    counts = batch["request_counts"]
    return (
        batch["id"],
        batch["status"],
        batch["endpoint"],
        batch["model"] or "",
        str(counts["completed"]),
        str(counts["failed"] or ""),
        str(counts["total"]),
        age(batch["created_at"]),
    )


def _standing(batch: dict[str, Any]) -> str:
    counts, word = batch["request_counts"], batch["status"].replace("_", " ")
    if not counts["total"]:  # its file was not read, or will not do
        return str(word)
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{word}: {counts['completed']} of {counts['total']} answered{failed}"


def _was(batch: dict[str, Any]) -> str:
    return "was cancelled" if batch["status"] == "cancelled" else str(batch["status"])


def _tell_end(batch: dict[str, Any]) -> None:
    sys.stderr.write(f"{_standing(batch)}\n")
    for text in _faults(batch):
        sys.stderr.write(f"  {text}\n")
    if batch["output_file_id"] or batch["error_file_id"]:
        sys.stderr.write(f"save it with:  hearth batches save {batch['id']}\n")


def _faults(batch: dict[str, Any]) -> list[str]:
    """What is wrong with its file; of a great many the first."""
    found = batch["errors"]["data"] if batch["errors"] else []
    told = [
        (f"line {fault['line']}: " if fault["line"] else "") + f"{fault['message']} ({fault['code']})"
        for fault in found[:_FAULTS_SHOWN]
    ]
    more = len(found) - len(told)
    return [*told, f"and {more} more: --json"] if more else told


def _facts(batch: dict[str, Any]) -> list[tuple[str, str]]:
    usage = batch["usage"]
    facts = [
        ("id", batch["id"]),
        ("status", _standing(batch)),
        ("endpoint", batch["endpoint"]),
        ("model", batch["model"] or ""),
        ("created", f"{age(batch['created_at'])} ago"),
        ("expires", time.strftime("%Y-%m-%d %H:%M", time.localtime(batch["expires_at"]))),
        ("tokens", f"{usage['input_tokens']} in, {usage['output_tokens']} out" if usage else ""),
        ("input", batch["input_file_id"]),
        ("output", batch["output_file_id"] or ""),
        ("errors", batch["error_file_id"] or ""),
        *(("fault", text) for text in _faults(batch)),
        *(batch["metadata"] or {}).items(),
    ]
    return [(name, text) for name, text in facts if text]
