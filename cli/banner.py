"""What ``hearth up`` says when it serves: where, on what card, which models, and what to try first."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8850"
"""Where the other commands look for a server that they are not told of."""


@dataclass(slots=True)
class Serving:
    """The facts of the banner. ``dashboard_secret`` is there only in the run that made it.

    ``also``: further addresses of the same API, by the dialect whose clients look there.
    """

    url: str
    pid: int
    data_dir: str
    models_dir: str
    logs: str
    also: dict[str, str] = field(default_factory=dict)
    dashboard: str | None = None
    dashboard_secret: str | None = None
    needs_key: bool = False
    ready_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    cards: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    unusable: list[dict[str, Any]] = field(default_factory=list)


def show(serving: Serving, *, as_json: bool) -> None:
    """To stdout: one JSON object on one line, or the words."""
    sys.stdout.write((json.dumps(asdict(serving)) if as_json else words(serving)) + "\n")
    sys.stdout.flush()


def words(serving: Serving) -> str:
    if serving.faults:
        headline = "Hearth is up, but cannot take jobs yet:"
    else:
        headline = f"Hearth is serving on {serving.url}  (ready in {serving.ready_s:.1f} s)"
    lines = ["", headline, *(f"  ! {fault}" for fault in serving.faults), ""]
    lines += [f"  {name:<10} {text}" for name, text in _rows(serving)]
    return "\n".join([*lines, "", *_first_steps(serving), "", "Ctrl-C stops everything.", ""])


def _rows(serving: Serving) -> list[tuple[str, str]]:
    rows = [("API", f"{serving.url}/v1   (documentation: {serving.url}/docs)")]
    rows += [(name, f"{url}   (the same API, where its clients look)") for name, url in serving.also.items()]
    if serving.needs_key:
        rows.append(("", "every request needs the key:  Authorization: Bearer $HEARTH_API_KEY"))
    rows += [("card", _card(card)) for card in serving.cards] or [("card", "none has been heard of yet")]
    rows.append(
        ("models", ", ".join(model["id"] for model in serving.models) or f"none in {serving.models_dir}")
    )
    rows += [
        ("", f"{model['id']} cannot be used: {(model.get('hearth') or {}).get('problem')}")
        for model in serving.unusable
    ]
    if serving.dashboard is not None:
        rows.append(("dashboard", serving.dashboard + _login(serving)))
    rows += [("data", serving.data_dir), ("logs", serving.logs)]
    return rows


def _login(serving: Serving) -> str:
    if serving.dashboard_secret is None:
        return f"   (user hearth, password in {serving.data_dir}/flower-password)"
    user, _, password = serving.dashboard_secret.partition(":")
    return (
        f"   (user {user}, password {password} - shown this once, kept in {serving.data_dir}/flower-password)"
    )


def _card(card: dict[str, Any]) -> str:
    name = card.get("name") or "?"
    if card.get("virtual"):
        return f"{card.get('id')}: VIRTUAL - no card was found, this one is made of software ({name})"
    return f"{card.get('id')}: {name} at {card.get('bus_id')}"


def _first_steps(serving: Serving) -> list[str]:
    if not serving.models:
        return [
            f"There is no model to use yet: put one into {serving.models_dir}, it is found within seconds."
        ]
    elsewhere = "" if serving.url == DEFAULT_URL else f"HEARTH_URL={serving.url} "
    steps = ["Try it:"]
    chat = _first(serving.models, "chat")
    if chat is not None:
        steps += [*_curl(serving, chat), f'  {elsewhere}./hearth chat "What is Hearth?"']
    if _first(serving.models, "image") is not None:
        steps.append(f'  {elsewhere}./hearth image "a red circle on a blue background"')
    return steps


def _curl(serving: Serving, model: str) -> list[str]:
    key = ' -H "authorization: Bearer $HEARTH_API_KEY"' if serving.needs_key else ""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "What is Hearth?"}], "stream": True}
    )
    return [
        f"  curl -sN {serving.url}/v1/chat/completions -H 'content-type: application/json'{key} \\",
        f"       -d '{body}'",
    ]


def _first(models: list[dict[str, Any]], kind: str) -> str | None:
    """The first model that does this kind of job; one that does not say talks."""
    kinds = ((model["id"], (model.get("hearth") or {}).get("kind", "chat")) for model in models)
    return next((name for name, does in kinds if does == kind), None)
