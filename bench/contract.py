"""``hearth bench contract``: does the API keep to its own OpenAPI document?

Schemathesis makes requests from the document, such as it allows and such as it forbids, and holds all answers
against it: no 5xx, no status, media type or shape that is not written down, nothing valid refused, nothing
invalid taken, 405 with the right ``Allow``.
"""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import schemathesis.openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from bench.report import Row, arguments, at_most, tell
from bench.stack import running

EXAMPLES = 60
PHASES = ("examples", "coverage", "fuzzing", "stateful")
_REF = re.compile(r"#/components/schemas/(\w+)")
_TOLD = 400
"""Characters of an answer, or of a request, that are shown."""
ENVIRONMENT = {f"HEARTH_QUEUE__{name}_CAP": "1000000" for name in ("CHAT", "IMAGE", "BATCH")}
"""Everything that is accepted finds room."""
TAKE_ALL = (
    "a1111_progress",
    "a1111_task_progress",
    "follow_job",
    "load_model",
    "pause_queues",
    "resume_queues",
    "show_picture",
    "show_preview",
    "unload_model",
)
"""Operations that take whatever their schema allows, although they may say 400 or 422 to the rest.

Everywhere else what a model, a package or another field allows is not for a schema to say: where 400 is
documented, what cannot be honoured is refused with it, and the tests of the endpoint say what that is.
"""
LENIENT = ("a1111_txt2img", "a1111_img2img", "a1111_set_options", "a1111_task_progress")
"""The web UI takes 0 for false and "4" for 4, and its clients count on it."""
SHADED = ("load_model", "unload_model")
"""``GET /v1/models/{name}`` takes their paths as well: another method is no 405 there, but a model's name."""
LARGE = (
    "submit_jobs",
    "create_chat_completion",
    "create_completion",
    "create_response",
    "a1111_img2img",
    "a1111_txt2img",
    "edit_image",
    "create_image",
    "ollama_generate",
)
"""Their bodies have so many fields that looking at each takes longer than all others together."""
_REFUSED = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "422", "429", "5xx"]


@dataclass(slots=True)
class Findings:
    """What a run came to. ``faults`` are told as schemathesis tells them, with a request that shows each."""

    cases: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str], str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """Of all operations there are."""
    taken_s: float = 0.0


def explore(url: str, *, examples: int, seed: int, phases: Sequence[str], brief: bool = False) -> Findings:
    """Requests made from the document of the server at ``url``, and what was wrong with the answers.

    ``phases``: of schemathesis: ``examples coverage fuzzing stateful``. ``brief``: no coverage of what is
    ``LARGE``.
    """
    document = narrowed(httpx.get(f"{url}/openapi.json", timeout=30).json(), url)
    schema = schemathesis.openapi.from_dict(
        document, config=_config(url, document, examples, seed, phases, brief)
    )
    found, began_s = Findings(names=frozenset(dict(_operations(document)))), time.monotonic()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(found, event)
        elif isinstance(event, events.NonFatalError):
            found.faults[event.label, "error"] = f"{event.label}: {event.value}"
        elif isinstance(event, events.FatalError):
            raise event.exception
    found.taken_s = time.monotonic() - began_s
    return found


def _config(
    url: str, document: dict[str, Any], examples: int, seed: int, phases: Sequence[str], brief: bool
) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "continue-on-failure": True,
            "request-timeout": 30,
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "phases": {
                name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")
            },
            "operations": [_of_operation(name, statuses, brief) for name, statuses in _operations(document)],
        }
    )


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """All operations by their ids, and the statuses that are documented of each."""
    for methods in document["paths"].values():
        for operation in methods.values():
            yield operation["operationId"], frozenset(operation["responses"])


def _note(found: Findings, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    found.cases += len(recorder.cases)
    found.by_operation[recorder.label] += len(recorder.cases)
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            told = recorder.interactions[case_id].response if case_id in recorder.interactions else None
            status = "no answer" if told is None else str(told.status_code)
            answer = "" if told is None else told.content[:_TOLD].decode(errors="replace")
            failure = check.failure_info.failure
            what = f"{recorder.label}: {failure.title}: {failure.message}\n  {status} {answer}"
            # One of a kind is enough; the next run shows the next.
            found.faults.setdefault(
                (recorder.label, f"{check.name} {status}"),
                f"{what}\n  {check.failure_info.code_sample[:_TOLD]}",
            )


def _of_operation(name: str, statuses: frozenset[str], brief: bool) -> dict[str, Any]:
    checks: dict[str, Any] = {}
    if statuses & {"400", "410", "422"} and name not in TAKE_ALL:
        checks["positive_data_acceptance"] = {"expected-statuses": _REFUSED}
    if name in LENIENT:
        checks["negative_data_rejection"] = {"enabled": False}
    if name in SHADED:
        checks |= {check: {"enabled": False} for check in ("unsupported_method", "allow_header_conformance")}
    phases = {"coverage": {"enabled": not (brief and name in LARGE)}}
    return {"include-operation-id": name, "checks": checks, "phases": phases}


# ---- the document, as it is for this server just now ----


def narrowed(document: dict[str, Any], url: str) -> dict[str, Any]:
    """``document``, in which models and ids are those there are: or most requests would end in a 404."""
    known = _there_is(url)
    for methods in document["paths"].values():
        for operation in methods.values():
            for name in _REF.findall(str(operation.get("requestBody", ""))):
                _narrow(document["components"]["schemas"][name]["properties"], known)
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"] = {"enum": known[parameter["name"]]}
    return document


def _narrow(fields: dict[str, Any], known: dict[str, list[str]]) -> None:
    if "model" in fields and fields.keys() & {"messages", "prompt", "input"}:
        kind = "painter" if "size" in fields else "model"
        fields["model"] = {**fields["model"], "enum": known[kind]}


def _there_is(url: str) -> dict[str, list[str]]:
    """What may stand for a path's parameters, and for a model: two jobs and a batch are made for it."""
    with httpx.Client(base_url=url, timeout=30) as client:
        models = client.get("/v1/models").json()["data"]
        chats = [model["id"] for model in models if model["hearth"]["kind"] == "chat"]
        painters = [model["id"] for model in models if model["hearth"]["kind"] == "image"]
        turns = [{"role": "user", "content": "Hi"}]
        job = {"model": chats[0], "messages": turns, "max_tokens": 4}
        single = client.post("/v1/jobs", json=job, headers={"Prefer": "wait=30"}).json()
        listed = client.post("/v1/jobs", json=[job, job], headers={"Prefer": "wait=30"}).json()
    return {
        "name": [model["id"] for model in models],
        "model": chats,
        "painter": painters,
        "job_id": [single["id"], *(each["id"] for each in listed["jobs"])],
        "batch_id": [listed["batch"]],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="by chance, for each operation")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is random")
    options = parser.parse_args(argv)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    sys.stderr.write(f"seed {seed}\n")
    with running(ENVIRONMENT) as stack:
        found = explore(stack.url, examples=options.examples, seed=seed, phases=PHASES)
    figures = {
        "seed": seed,
        "cases": found.cases,
        "operations": len(found.by_operation),
        "faults": len(found.faults),
        "taken_s": round(found.taken_s, 1),
    }
    rows = [
        Row("requests made from the document", found.cases, ""),
        Row("operations", len(found.by_operation), ""),
        at_most("answers that it does not allow", len(found.faults), "", 0),
    ]
    tell("contract", rows, figures, as_json=options.json, out=options.out)
    sys.stderr.write("".join(f"{fault}\n" for fault in found.faults.values()))
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
