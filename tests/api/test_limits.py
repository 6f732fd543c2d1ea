"""What a body may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from api.errors import Refusal
from api.limits import MAX_DEPTH, parse_json
from tests.api.support import ask


def _refused(body: bytes) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        parse_json(body)
    return refused.value.problem.code, refused.value.problem.param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a": "\x01"}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert _refused(body) == ("invalid_json", None)


def test_the_place_of_a_lone_surrogate_is_named() -> None:
    assert _refused(b'{"messages": [{"content": "a\\ud800b"}]}') == ("invalid_value", "messages[0].content")
    assert _refused(b'{"a": {"\\udfff": 1}}') == ("invalid_value", "a")
    assert _refused(b'"\\ud83d"') == ("invalid_value", None)


def test_decent_json_passes() -> None:
    assert parse_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert parse_json(b'"\\\\ud800"') == "\\ud800"


async def test_a_body_of_ten_megabytes_is_too_large(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=ask("x" * 10_000_000))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"


async def test_where_pictures_may_come_a_body_may_be_larger(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", json=ask(user="x" * 10_000_000))).status_code == 202
    assert (await client.post("/v1/jobs", json=ask(user="x" * 34_000_000))).status_code == 413


@pytest.mark.parametrize(("path", "megabytes"), [("/v1/chat/completions", 5), ("/v1/jobs", 34)])
async def test_a_body_that_hides_its_length_is_counted(
    client: httpx.AsyncClient, path: str, megabytes: int
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield b" " * 1_000_000

    response = await client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_must_say_that_it_is_json(client: httpx.AsyncClient, kind: str) -> None:
    response = await client.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
    assert response.status_code == 415


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
)
async def test_json_goes_by_several_names(client: httpx.AsyncClient, kind: str) -> None:
    response = await client.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded"])
async def test_ollamas_clients_need_not_say_that_it_is_json(client: httpx.AsyncClient, kind: str) -> None:
    """litellm sends no type, curl that of a form; a page of strangers could send either without asking."""
    headers = {"Content-Type": kind} if kind else {}
    body = b'{"model": "tiny-chat"}'
    assert (await client.post("/api/show", content=body, headers=headers)).status_code == 200
    for page in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        refused = await client.post("/api/show", content=body, headers={**headers, **page})
        assert refused.status_code == 403
