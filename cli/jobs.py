"""``hearth jobs``: list, show, wait, cancel, save."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from cli.client import Client
from cli.errors import JOB_FAILED, CliError
from cli.files import Place, save_all
from cli.follow import follow, silently, to_stdout
from cli.output import age, print_json, print_table, size

_COLUMNS = ("id", "state", "model", "class", "place", "age", "run", "made", "prompt")
_PROMPT_CHARACTERS = 40


def ls(client: Client, query: dict[str, Any], *, as_json: bool) -> None:
    page = client.get("/v1/jobs", **query)
    if as_json:
        print_json(page)
        return
    print_table(_COLUMNS, (_row(job) for job in page["data"]), empty="no jobs", clips_last=True)
    if page["has_more"]:
        sys.stderr.write("there are more: --limit\n")


def show(client: Client, job_id: str, *, as_json: bool) -> None:
    job = client.get(f"/v1/jobs/{_checked(job_id)}")
    if as_json:
        print_json(job)
        return
    for name, text in _facts(job, client.url):
        sys.stdout.write(f"{name:<10} {text}\n")


def save(client: Client, name: str, place: Place, *, as_json: bool) -> None:
    """Save the pictures of a job, or of all jobs of a batch that have made one. Raises CliError."""
    place = replace(place, many=name.startswith("batch_"), is_quiet=as_json)
    place.check()
    if place.many:
        jobs = [job for job in _of_batch(client, _checked(name)) if job["state"] == "succeeded"]
        if not jobs:
            raise CliError(f"no job of the batch {name} has made a picture")
    else:
        jobs = [client.get(f"/v1/jobs/{_checked(name)}")]
    files = [path for job in jobs for path in save_all(client, job, place)]
    if as_json:
        print_json(files)


def _of_batch(client: Client, batch: str) -> list[dict[str, Any]]:
    """All jobs of a batch, in the order they came in."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.get("/v1/jobs", batch=batch, after=after, limit=100)
        found += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            return found[::-1]


def wait(client: Client, job_id: str, *, as_json: bool) -> int:
    """Returns the exit status."""
    end = follow(client, _checked(job_id), say=silently if as_json else to_stdout)
    if as_json:
        print_json(client.get(f"/v1/jobs/{job_id}"))
    elif end.text:
        sys.stdout.write("\n")
    elif end.vectors:
        sys.stderr.write(f"{end.vectors} vectors are there:  GET /v1/jobs/{job_id}/embeddings\n")
    elif end.event.get("output"):
        sys.stderr.write(f"the picture is there; save it with:  hearth jobs save {job_id}\n")
    if end.fault is not None:
        sys.stderr.write(f"hearth: {end.fault}\n")
    return 0 if end.fault is None else JOB_FAILED


def cancel(client: Client, job_id: str, *, as_json: bool) -> None:
    job = client.post(f"/v1/jobs/{_checked(job_id)}/cancel")
    if as_json:
        print_json(job)
    elif job["state"] == "running":
        sys.stdout.write("it stops at its next step\n")
    else:
        sys.stdout.write(f"{job['state']}\n")


def _checked(job_id: str) -> str:
    if not job_id.replace("_", "").isalnum():
        raise CliError(f"{job_id!r} is no job id; they look like job_0123…")
    return job_id


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    run_ms = (job.get("timings") or {}).get("run_ms")
    return (
        job["id"],
        _state(job),
        job["model"],
        job["queue"].partition(".")[0],
        str(job["position"] or ""),
        age(job["created_at"]),
        f"{run_ms / 1000:.1f} s" if run_ms else "",
        _made(job),
        _beginning((job.get("input") or {}).get("prompt", "")),
    )


def _made(job: dict[str, Any]) -> str:
    asked, usage = job.get("input"), job.get("usage")
    if asked is not None:
        return f"{asked['size']} {asked['format']}"
    for piece in job["output"]:
        if piece["type"] == "embeddings":
            return f"{piece['count']} vectors"
    return f"{usage['completion_tokens']} tokens" if usage else ""


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _PROMPT_CHARACTERS else text[: _PROMPT_CHARACTERS - 1] + "…"


def _state(job: dict[str, Any]) -> str:
    hold = job.get("hold")
    return f"{job['state']} ({hold['reason']})" if hold else str(job["state"])


def _facts(job: dict[str, Any], url: str) -> list[tuple[str, str]]:
    facts = [("id", job["id"]), ("state", _state(job)), ("model", job["model"]), ("queue", job["queue"])]
    if job["position"]:
        facts.append(("place", str(job["position"])))
    facts += [("created", f"{age(job['created_at'])} ago"), ("attempt", str(job["attempt"]))]
    if job.get("batch"):
        facts.append(("batch", job["batch"]))
    facts += _asked(job.get("input"))
    if job["usage"] and job["kind"] in ("chat", "embed"):
        usage = job["usage"]
        out = f", {usage['completion_tokens']} out" if job["kind"] == "chat" else ""
        facts.append(("tokens", f"{usage['prompt_tokens']} in{out}"))
    if job["ended_at"]:
        timings = job["timings"]
        waited_s, ran_s = timings["queued_ms"] / 1000, timings["run_ms"] / 1000
        facts.append(("time", f"{waited_s:.1f} s queued, {ran_s:.1f} s running"))
    if job["error"]:
        facts.append(("error", f"{job['error']['message']} ({job['error']['code']})"))
    facts += [("warning", warning) for warning in job["warnings"]]
    facts += [(name, value) for name, value in job["metadata"].items()]
    facts += [("text", piece["text"]) for piece in job["output"] if piece["type"] == "text"]
    facts += [
        ("vectors", f"{url}{piece['url']}  ({piece['count']} of {piece['dimensions']} numbers)")
        for piece in job["output"]
        if piece["type"] == "embeddings"
    ]
    return facts + [
        ("picture", f"{url}{piece['url']}  ({size(piece['size_bytes'])})")
        for piece in job["output"]
        if piece["type"] == "image"
    ]


def _asked(picture: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What a picture is drawn from."""
    if picture is None:
        return []
    facts = [("prompt", picture["prompt"])]
    if picture["negative_prompt"]:
        facts.append(("negative", picture["negative_prompt"]))
    facts.append(("drawn", f"{picture['size']} in {picture['steps']} steps, seed {picture['seed']}"))
    if picture["source"]:
        facts.append(("from", f"a picture, {picture['source']['strength']:g} of it anew"))
    return facts
