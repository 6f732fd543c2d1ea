"""Each limit of the settings: what just fits passes it, one more is refused and told the number.

A setting without a row here, or a code without a test that meets it, fails.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from api.errors import FORMS
from config.groups import LimitSettings, QueueSettings
from config.settings import Settings
from tasks.documents import DocumentStore
from tests.api.conftest import client_of
from tests.api.painting import a_picture
from tests.api.support import PICTURES, TEXTS, TINY, StandIn, ask, publish

Asked = tuple[str, dict[str, Any]]
Units = Callable[[int], Asked]
"""A request that is so many units large: its path, and what the client sends."""


def _json(path: str, body: Callable[[int], Any]) -> Units:
    return lambda units: (path, {"json": body(units)})


def _spaces(path: str) -> Units:
    """A body of so many bytes. It is no request: what is checked behind its size refuses it otherwise."""
    return lambda units: (
        path,
        {"content": b"{}" + b" " * (units - 2), "headers": {"Content-Type": "application/json"}},
    )


def _draw(**fields: Any) -> dict[str, Any]:
    return {"kind": "image", "prompt": "a fox", **fields}


def _from_picture(picture: bytes) -> Asked:
    return "/v1/jobs", {"json": _draw(image=base64.b64encode(picture).decode())}


def _schema(size: int) -> Any:
    """A schema of so many bytes, as it is written."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"const": ""}}}
    schema["properties"]["a"]["const"] = "x" * (size - len(json.dumps(schema, separators=(",", ":"))))
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return ask(response_format=form)


def _files(units: int) -> Asked:
    return "/v1/files", {"data": {"purpose": "user_data"}, "files": {"file": ("a.txt", b"x" * units)}}


PICTURE = a_picture(size=(64, 64))
CAPS: dict[str, tuple[int, Units, int, str]] = {
    "limits.body_bytes": (500, _spaces("/v1/chat/completions"), 413, "payload_too_large"),
    "limits.picture_body_bytes": (500, _spaces("/v1/jobs"), 413, "payload_too_large"),
    "limits.picture_bytes": (
        len(PICTURE),
        lambda units: _from_picture(PICTURE + b"\0" * (units - len(PICTURE))),
        400,
        "image_too_large",
    ),
    "limits.picture_pixels": (
        4_000_000,
        lambda units: _from_picture(a_picture(size=(1000, 4000 if units <= 4_000_000 else 4001))),
        400,
        "invalid_image",
    ),
    "limits.schema_bytes": (200, _json("/v1/jobs", _schema), 400, "invalid_value"),
    "limits.prompt_chars": (50, _json("/v1/jobs", lambda n: _draw(prompt="x" * n)), 400, "invalid_value"),
    "limits.pictures_per_request": (
        3,
        _json("/v1/images/generations", lambda n: {"prompt": "x", "n": n}),
        400,
        "invalid_value",
    ),
    "limits.messages": (
        3,
        _json("/v1/jobs", lambda n: ask(messages=[{"role": "user", "content": "a"}] * n)),
        400,
        "invalid_value",
    ),
    "limits.stop_strings": (2, _json("/v1/jobs", lambda n: ask(stop=["a"] * n)), 400, "invalid_value"),
    "limits.metadata_pairs": (
        2,
        _json("/v1/jobs", lambda n: ask(metadata={str(k): "v" for k in range(n)})),
        400,
        "invalid_value",
    ),
    "limits.jobs_per_request": (3, _json("/v1/jobs", lambda n: [ask()] * n), 400, "invalid_value"),
    "limits.choices": (2, _json("/v1/chat/completions", lambda n: ask(n=n)), 400, "invalid_value"),
    "limits.embedding_inputs": (
        2,
        _json("/v1/jobs", lambda n: {"kind": "embed", "input": ["a"] * n}),
        400,
        "invalid_value",
    ),
    "limits.file_bytes": (100, _files, 413, "payload_too_large"),
    "queue.chat_cap": (2, _json("/v1/jobs", lambda n: [ask()] * n), 429, "queue_full"),
    "queue.priority_cap": (
        2,
        _json("/v1/jobs", lambda n: [{**ask(), "class": "priority"}] * n),
        429,
        "queue_full",
    ),
    "queue.image_cap": (2, _json("/v1/jobs", lambda n: _draw(n=n)), 429, "queue_full"),
    "queue.batch_cap": (
        2,
        _json("/v1/jobs", lambda n: [{**ask(), "class": "batch"}] * n),
        429,
        "queue_full",
    ),
    "queue.key_cap": (2, _json("/v1/jobs", lambda n: [ask()] * n), 429, "queue_full"),
}
"""For each setting: a value for it, a request of so many units, and what one unit too many is told."""
ELSEWHERE = {
    "limits.batch_lines": "bulk/test_bulk.py",
    "limits.batches_per_key": "bulk/test_bulk.py",
    "limits.files_bytes": "bulk/test_files.py",
    "limits.files_per_key": "bulk/test_files.py",
    "limits.wait_s": "test_caps.py",
}
"""Settings whose test needs more than one request, and where it is: there it says the setting's name."""


def _settings() -> set[str]:
    caps = {f"queue.{name}" for name in QueueSettings.model_fields if name.endswith("cap")}
    return caps | {f"limits.{name}" for name in LimitSettings.model_fields}


def test_every_limit_has_a_test() -> None:
    rows = set(CAPS) | set(ELSEWHERE)
    assert not (missing := sorted(_settings() - rows)), f"{missing}: add a row to CAPS in {__file__}"
    assert not (gone := sorted(rows - _settings())), f"{gone}: there are no such settings"
    for setting, file in ELSEWHERE.items():
        assert setting.partition(".")[2] in (Path(__file__).parent / file).read_text(), setting


def _with(settings: Settings, setting: str, value: int) -> Settings:
    group, _, name = setting.partition(".")
    more = {"body_bytes": 1} if name == "picture_body_bytes" else {}  # the larger of the two counts
    changed = getattr(settings, group).model_copy(update={name: value, **more})
    return settings.model_copy(update={group: changed})


@pytest.mark.parametrize("setting", CAPS)
async def test_one_more_than_fits_is_refused_by_name_and_number(
    settings: Settings, store: redis.Redis, worker: StandIn, setting: str
) -> None:
    publish(store, TINY, PICTURES, TEXTS)
    value, units, status, code = CAPS[setting]
    async with client_of(_with(settings, setting, value)) as client:
        over = await _post(client, units(value + 1))
        assert (over.status_code, _code(over)) == (status, code), over.text
        if status != 429:
            assert str(value) in over.text or "4.0 megapixels" in over.text, "the limit is not told"
        else:
            assert 1 <= int(over.headers["retry-after"]) <= 120
        fits = await _post(client, units(value))
        assert fits.status_code < 300 or _code(fits) != code, fits.text


async def _post(client: httpx.AsyncClient, asked: Asked) -> httpx.Response:
    path, sent = asked
    return await client.post(path, **sent)


def _code(answer: httpx.Response) -> Any:
    error = answer.json().get("error")
    return error and error["code"]


async def test_nobody_waits_longer_than_wait_s(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with(settings, "limits.wait_s", 1)) as client:
        async with asyncio.timeout(20):
            answer = await client.post("/v1/jobs", json=ask(), headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


TOLD_IN_WORDS = {
    "invalid_request": "models/llm/test_template.py",
    "model_busy": "api/ollama/test_store.py",
    "package_busy": "api/packages/test_copying.py",
    "package_refused": "api/packages/test_shelf.py",
}
"""Codes that no client of OpenAI's dialect meets, or that a worker tells: where their words are tested."""


@pytest.mark.parametrize("code", [code for code, form in FORMS.items() if 400 <= form.status < 500])
def test_every_refusal_is_met_by_a_test(code: str) -> None:
    tests = Path(__file__).parent
    if code in TOLD_IN_WORDS:
        assert (tests.parent / TOLD_IN_WORDS[code]).is_file()
        return
    found = [path for path in tests.rglob("test_*.py") if f'"{code}"' in path.read_text()]
    assert found, f"no test of this room meets {code!r}: write one that does, and says it"


async def test_a_file_whose_bytes_are_lost_is_gone(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings) as client:
        file_id = (await _post(client, _files(3))).json()["id"]
        DocumentStore(settings.data_dir).path(file_id).unlink()
        refused = await client.get(f"/v1/files/{file_id}/content")
    assert (refused.status_code, refused.json()["error"]["code"]) == (410, "file_gone")


async def test_the_web_ui_is_told_of_an_unknown_sampler_in_its_words(client: httpx.AsyncClient) -> None:
    """In the dialect "sampler_not_found" has no place but the words."""
    refused = await client.post("/sdapi/v1/txt2img", json={"prompt": "x", "sampler_name": "Euler b"})
    assert (refused.status_code, refused.json()["detail"]) == (404, "Sampler not found")
