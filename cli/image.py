"""``hearth image``: draws pictures, shows how they come along, and saves them."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.errors import JOB_FAILED, CliError
from cli.files import Place, save_all
from cli.follow import follow, silently
from cli.interrupt import holding_interrupts
from cli.output import print_json

_MOST_BYTES = 20 * 1024 * 1024
"""What the server takes of one picture, unless told otherwise: a larger file is not even read."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be drawn; ``options`` are fields of the request, ``source`` and ``mask`` files to read."""

    prompt: str
    options: dict[str, Any]
    source: Path | None = None
    mask: Path | None = None

    def request(self) -> dict[str, Any]:
        """The body of the request. Raises CliError when a file cannot be read."""
        files = {"image": self.source, "mask": self.mask}
        read = {name: _in_base64(path) for name, path in files.items() if path is not None}
        return {"kind": "image", "prompt": self.prompt, **self.options, **read}


def image(client: Client, wish: Wish, place: Place, *, as_json: bool) -> int:
    """Draw, save each picture as soon as it is there, and print where. Returns the exit status.

    Whoever interrupts it does not want the pictures: those that are not done are cancelled.
    Raises CliError.
    """
    place = replace(place, many=wish.options.get("n", 1) > 1, is_quiet=as_json)
    place.check()
    with holding_interrupts() as held:
        answer = client.post("/v1/jobs", wish.request())
    jobs: list[dict[str, Any]] = answer["data"] if answer["object"] == "list" else [answer]
    for warning in jobs[0]["warnings"]:
        sys.stderr.write(f"note: {warning}\n")
    try:
        held.release()
        drawn = [_one(client, job, place, _label(number, len(jobs))) for number, job in enumerate(jobs, 1)]
    except KeyboardInterrupt:
        # The last ones first, so that none of them begins when the running one makes room.
        for job in reversed(jobs):
            client.post(f"/v1/jobs/{job['id']}/cancel")
        raise
    if as_json:
        print_json(drawn[0] if answer["object"] != "list" else drawn)
    done = sum(job["state"] == "succeeded" for job in drawn)
    if done < len(drawn) > 1:
        sys.stderr.write(f"hearth: {done} of {len(drawn)} pictures were drawn\n")
    return 0 if done == len(drawn) else JOB_FAILED


def _one(client: Client, job: dict[str, Any], place: Place, label: str) -> dict[str, Any]:
    """Follow a job and save its picture; returns the record at its end, with the files' paths."""
    end = follow(client, job["id"], say=silently, label=label, eta=job["eta"])
    ended: dict[str, Any] = client.get(f"/v1/jobs/{job['id']}")
    if end.fault is not None:
        sys.stderr.write(f"hearth: {label}{end.fault}\n")
        return ended
    for warning in end.event.get("warnings", ()):
        sys.stderr.write(f"note: {warning}\n")
    return {**ended, "files": save_all(client, ended, place)}


def _label(number: int, count: int) -> str:
    return "" if count == 1 else f"picture {number} of {count}: "


def _in_base64(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CliError(f"{path} is too large: at most {_MOST_BYTES >> 20} MiB are taken", status=2)
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", status=2) from None
