"""``/v1/files``: what is taken, what is refused, and whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from api.openai import upload
from config.groups import LimitSettings
from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks import keys
from tasks.documents import DocumentStore
from tests.api.conftest import client_of

FILES = "/v1/files"


async def send(
    client: httpx.AsyncClient,
    data: bytes = b"{}\n",
    name: str = "in.jsonl",
    fields: dict[str, str] | None = None,
) -> httpx.Response:
    fields = {"purpose": "batch", **(fields or {})}
    return await client.post(FILES, files={"file": (name, data)}, data=fields)


def on_disk(settings: Settings) -> list[Path]:
    return DocumentStore(settings.data_dir).leftovers(1e12)


async def test_a_file_comes_is_told_and_goes(client: httpx.AsyncClient, settings: Settings) -> None:
    data = b'{"a": 1}\n' * 40_000  # more than one piece
    sent = await send(client, data, "../../etc/Wünsche\u200b.jsonl")
    assert sent.status_code == 200
    file = sent.json()
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": file["created_at"],
        "expires_at": file["created_at"] + 30 * 86_400,
        "filename": "Wünsche.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    where = f"{FILES}/{file['id']}"
    assert (await client.get(where)).json() == file
    got = await client.get(f"{where}/content")
    assert (got.content, got.headers["content-type"]) == (data, "application/octet-stream")
    assert got.headers["content-disposition"].startswith("attachment;")
    [path] = on_disk(settings)
    assert path.name == file["id"]
    gone = await client.delete(where)
    assert gone.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert on_disk(settings) == []
    for method, path_of in (("GET", where), ("GET", f"{where}/content"), ("DELETE", where)):
        answer = await client.request(method, path_of)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_files_are_listed_by_page_and_purpose(client: httpx.AsyncClient) -> None:
    ids = [
        (await send(client, fields={"purpose": each})).json()["id"]
        for each in ("batch", "user_data", "batch")
    ]
    listed = (await client.get(FILES)).json()
    assert [each["id"] for each in listed["data"]] == ids[::-1]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (ids[2], ids[0], False)
    page = (await client.get(FILES, params={"limit": 1, "order": "asc", "purpose": "batch"})).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([ids[0]], True)
    page = (await client.get(FILES, params={"after": ids[0], "order": "asc", "purpose": "batch"})).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([ids[2]], False)
    for wrong in ({"after": "file-none"}, {"limit": 0}, {"order": "up"}, {"purpose": "assistants"}):
        answer = await client.get(FILES, params=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))


async def test_how_long_a_file_is_kept_can_be_asked(client: httpx.AsyncClient) -> None:
    after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = (await send(client, fields=after)).json()
    assert file["expires_at"] == file["created_at"] + 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "x"}, "expires_after[seconds]"),
        ({"long": "x" * 1025}, "long"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_kept(
    client: httpx.AsyncClient, settings: Settings, fields: dict[str, str], param: str
) -> None:
    answer = await send(client, fields=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert on_disk(settings) == []


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n'
PURPOSE = PART % (b"purpose", b"batch")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "multipart/form-data"}, 400, "invalid_form"),
        (b"nonsense", FORM, 400, "invalid_form"),
        (PURPOSE + FILE % b"cut short", FORM, 400, "invalid_form"),
        (PURPOSE + b"--b--\r\n", FORM, 400, "missing_required_parameter"),
        (FILE % b"x" + b"--b--\r\n", FORM, 400, "missing_required_parameter"),
        (FILE % b"x" + FILE % b"y" + b"--b--\r\n", FORM, 400, "unsupported_value"),
        ((FILE % b"x").replace(b'"file"', b'"fill"') + b"--b--\r\n", FORM, 400, "unsupported_value"),
        (b"".join(PART % (b"%d" % n, b"") for n in range(17)) + b"--b--\r\n", FORM, 400, "invalid_form"),
        (b"--b\r\n" + b"X-Long: " + b"x" * 9000 + b"\r\n\r\n\r\n--b--\r\n", FORM, 400, "invalid_form"),
    ],
)
async def test_a_form_that_is_none_is_refused(
    client: httpx.AsyncClient,
    settings: Settings,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    answer = await client.post(FILES, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert on_disk(settings) == []


async def test_there_are_bounds(settings: Settings, house: redis.Redis) -> None:
    limits = LimitSettings(file_bytes=100, files_bytes=150, files_per_key=2)
    async with client_of(settings.model_copy(update={"limits": limits})) as client:
        for size in (101, 70_000):  # one that is counted, one that was announced
            large = await send(client, b"x" * size)
            assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")
        assert (await send(client, b"x" * 100)).status_code == 200
        full = await send(client, b"x" * 51)
        assert (full.status_code, full.json()["error"]["code"]) == (507, "files_full")
        assert (await send(client, b"x" * 50)).status_code == 200
        many = await send(client, b"")
        assert (many.status_code, many.json()["error"]["code"]) == (400, "too_many_files")
    assert len(on_disk(settings)) == 2
    assert house.get(keys.DOCUMENT_BYTES) == b"150"


async def test_a_full_disk_is_told(
    client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DocumentStore, "settle", settle)
    answer = await send(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert on_disk(settings) == []


async def test_a_form_that_does_not_come_is_not_waited_for(
    client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield FILE[:20]
        await asyncio.Event().wait()

    monkeypatch.setattr(upload, "_PIECE_S", 0.05)
    answer = await client.post(FILES, content=pieces(), headers=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")
    assert on_disk(settings) == []


async def test_files_and_batches_are_their_owners_alone(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    mine, theirs = (
        {"Authorization": f"Bearer {ring.add(name, Scope.ADMIN)[1]}"} for name in ("mine", "theirs")
    )
    async with client_of(settings) as client:
        sent = await client.post(
            FILES, files={"file": ("a", b"{}\n")}, data={"purpose": "batch"}, headers=mine
        )
        order = {
            "input_file_id": sent.json()["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        batch = (await client.post("/v1/batches", json=order, headers=mine)).json()
        refused = await client.post("/v1/batches", json=order, headers=theirs)
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "input_file_id")
        file_at, batch_at = f"{FILES}/{order['input_file_id']}", f"/v1/batches/{batch['id']}"
        for method, path in (
            ("GET", file_at),
            ("GET", f"{file_at}/content"),
            ("DELETE", file_at),
            ("GET", batch_at),
            ("POST", f"{batch_at}/cancel"),
        ):
            assert (await client.request(method, path, headers=theirs)).status_code == 404
        for path in (FILES, "/v1/batches"):
            assert (await client.get(path, headers=theirs)).json()["data"] == []
            assert len((await client.get(path, headers=mine)).json()["data"]) == 1
        assert (await client.get(batch_at, headers=mine)).status_code == 200
