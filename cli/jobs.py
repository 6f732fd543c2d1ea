"""``hearth jobs``: list, show, wait, cancel."""

from __future__ import annotations

import sys
from typing import Any

from cli.client import Client
from cli.errors import CliError
from cli.follow import follow
from cli.output import age, print_json, print_table

_COLUMNS = ("id", "state", "model", "class", "place", "age", "run", "tokens")


def ls(client: Client, query: dict[str, Any], *, as_json: bool) -> None:
    page = client.get("/v1/jobs", **query)
    if as_json:
        print_json(page)
        return
    print_table(_COLUMNS, (_row(job) for job in page["data"]), empty="no jobs")
    if page["has_more"]:
        sys.stderr.write("there are more: --limit\n")


def show(client: Client, job_id: str, *, as_json: bool) -> None:
    job = client.get(f"/v1/jobs/{_checked(job_id)}")
    if as_json:
        print_json(job)
        return
    for name, text in _facts(job):
        sys.stdout.write(f"{name:<10} {text}\n")


def wait(client: Client, job_id: str, *, as_json: bool) -> int:
    """Returns 0 when the job succeeded, else 1."""
    end = follow(client, _checked(job_id), is_quiet=as_json)
    if as_json:
        print_json(client.get(f"/v1/jobs/{job_id}"))
    elif end.text:
        sys.stdout.write("\n")
    if end.fault is not None:
        sys.stderr.write(f"hearth: {end.fault}\n")
    return 0 if end.fault is None else 1


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
    usage = job.get("usage") or {}
    run_ms = (job.get("timings") or {}).get("run_ms")
    return (
        job["id"],
        _state(job),
        job["model"],
        job["queue"].partition(".")[0],
        str(job["position"] or ""),
        age(job["created_at"]),
        f"{run_ms / 1000:.1f} s" if run_ms else "",
        str(usage.get("completion_tokens", "")),
    )


def _state(job: dict[str, Any]) -> str:
    hold = job.get("hold")
    return f"{job['state']} ({hold['reason']})" if hold else str(job["state"])


def _facts(job: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("id", job["id"]), ("state", _state(job)), ("model", job["model"]), ("queue", job["queue"])]
    if job["position"]:
        facts.append(("place", str(job["position"])))
    facts += [("created", f"{age(job['created_at'])} ago"), ("attempt", str(job["attempt"]))]
    if job["usage"]:
        usage = job["usage"]
        facts.append(("tokens", f"{usage['prompt_tokens']} in, {usage['completion_tokens']} out"))
    if job["ended_at"]:
        timings = job["timings"]
        waited_s, ran_s = timings["queued_ms"] / 1000, timings["run_ms"] / 1000
        facts.append(("time", f"{waited_s:.1f} s queued, {ran_s:.1f} s running"))
    if job["error"]:
        facts.append(("error", f"{job['error']['message']} ({job['error']['code']})"))
    facts += [("warning", warning) for warning in job["warnings"]]
    facts += [(name, value) for name, value in job["metadata"].items()]
    return facts + [("text", piece["text"]) for piece in job["output"] if piece["type"] == "text"]
