"""Who may ask, and whose jobs he sees."""

from __future__ import annotations

import base64

import httpx
import pytest
import redis
from pydantic import SecretStr

from api.auth import ADMIN_ROUTES, OPEN_PATHS
from api.main import create_app
from config.keyring import FILE, Keyring, Scope
from config.settings import Settings
from tests.api.conftest import client_of
from tests.api.support import ask


def _with_key(settings: Settings, key: str) -> Settings:
    return settings.model_copy(update={"api_key": SecretStr(key)})


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer s3cret2", "Basic s3cret", "s3cret", "Bearer \xff"]
)
async def test_without_the_key_there_is_nothing(
    settings: Settings, house: redis.Redis, header: str | None
) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    async with client_of(_with_key(settings, "s3cret")) as client:
        for path in ("/v1/models", "/v1/jobs", "/nowhere"):
            response = await client.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-request-id"]


async def test_the_key_opens(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with_key(settings, "s3cret")) as client:
        assert (await client.get("/v1/models", headers={"Authorization": "bearer s3cret"})).status_code == 200


def _basic(user_and_key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(user_and_key.encode()).decode()}


async def test_the_web_uis_clients_send_the_key_as_a_password(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with_key(settings, "s3c:ret")) as client:
        path = "/sdapi/v1/samplers"
        assert (await client.get(path, headers=_basic("anybody:s3c:ret"))).status_code == 200
        assert (await client.get(path, headers={"Authorization": "Bearer s3c:ret"})).status_code == 200
        for wrong in (_basic("s3c:ret"), _basic("s3c:ret:"), {"Authorization": "Basic !"}, {}):
            refused = await client.get(path, headers=wrong)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Basic realm="hearth", Bearer'
            assert "password" in refused.json()["detail"]


async def test_a_password_opens_nothing_else(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with_key(settings, "s3cret")) as client:
        assert (await client.get("/v1/jobs", headers=_basic("anybody:s3cret"))).status_code == 401


async def test_health_needs_no_key(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with_key(settings, "s3cret")) as client:
        for path in OPEN_PATHS:
            assert (await client.get(path)).status_code == 200


async def test_any_token_is_welcome_without_a_key(client: httpx.AsyncClient) -> None:
    for header in ("Bearer sk-anything", "Basic abc", "nonsense"):
        assert (await client.get("/v1/models", headers={"Authorization": header})).status_code == 200


async def test_a_job_is_its_owners_alone(settings: Settings, house: redis.Redis) -> None:
    mine, theirs = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    async with client_of(_with_key(settings, "one")) as client:
        job = (await client.post("/v1/jobs", json=ask(), headers=mine)).json()
        assert (await client.get(job["urls"]["self"], headers=mine)).status_code == 200
    async with client_of(_with_key(settings, "two")) as client:
        assert (await client.get("/v1/jobs", headers=theirs)).json()["data"] == []
        for method, path in (("GET", "self"), ("GET", "events"), ("POST", "cancel")):
            response = await client.request(method, job["urls"][path], headers=theirs)
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "job_not_found"


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_keys_of_the_ring_open_what_their_scope_allows(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    _, reader = ring.add("reader", Scope.INFER)
    _, keeper = ring.add("keeper", Scope.ADMIN)
    async with client_of(settings) as client:
        assert (await client.get("/v1/models")).status_code == 401
        for key in (reader, keeper):
            assert (await client.get("/v1/models", headers=_bearer(key))).status_code == 200
        pause = {"class": "batch"}
        refused = await client.post("/v1/queue/pause", json=pause, headers=_bearer(reader))
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "permission_denied"
        kept = await client.post("/v1/queue/pause", json=pause, headers=_bearer(keeper))
        assert kept.status_code == 200


async def test_a_job_is_visible_to_its_own_key_only(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    mine, theirs = (_bearer(ring.add(name, Scope.ADMIN)[1]) for name in ("mine", "theirs"))
    async with client_of(settings) as client:
        made = await client.post("/v1/jobs", json=ask("hello"), headers=mine)
        paths = [f"/v1/jobs/{made.json()['id']}", f"/v1/jobs/{made.json()['id']}/events"]
        assert (await client.get(paths[0], headers=mine)).status_code == 200
        for path in paths:
            assert (await client.get(path, headers=theirs)).status_code == 404
        cancelled = await client.post(paths[0] + "/cancel", headers=theirs)
        assert cancelled.status_code == 404
        assert (await client.get("/v1/jobs", headers=theirs)).json()["data"] == []


async def test_a_running_server_notices_new_and_revoked_keys(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings) as client:
        assert (await client.get("/v1/models")).status_code == 200
        ring = Keyring(settings.data_dir)
        key, secret = ring.add("laptop", Scope.INFER)
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers=_bearer(secret))).status_code == 200
        ring.revoke(key.id)
        assert (await client.get("/v1/models", headers=_bearer(secret))).status_code == 401
        assert (await client.get("/v1/models")).status_code == 401, "the last key's end opened the door"


async def test_beyond_loopback_a_ring_that_is_gone_opens_nothing(
    settings: Settings, house: redis.Redis
) -> None:
    ring = Keyring(settings.data_dir)
    _, secret = ring.add("laptop", Scope.INFER)
    for host, status in (("0.0.0.0", 401), ("127.0.0.1", 200)):  # noqa: S104 - not listened on here
        async with client_of(settings.model_copy(update={"host": host})) as client:
            assert (await client.get("/v1/models", headers=_bearer(secret))).status_code == 200
            (settings.data_dir / FILE).rename(settings.data_dir / "moved")
            assert (await client.get("/v1/models")).status_code == status
            (settings.data_dir / "moved").rename(settings.data_dir / FILE)


async def test_a_damaged_ring_opens_nothing(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings) as client:
        settings.data_dir.mkdir(exist_ok=True)
        (settings.data_dir / FILE).write_text("{")
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/health")).status_code == 200


FOR_EVERYBODY = {
    "/v1/batches",
    "/v1/batches/{batch_id}/cancel",
    "/v1/files",
    "/v1/files/{file_id}",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/pull",
    "/api/show",
    "/internal/progress",
    "/sdapi/v1/img2img",
    "/sdapi/v1/interrupt",
    "/sdapi/v1/options",
    "/sdapi/v1/png-info",
    "/sdapi/v1/refresh-checkpoints",
    "/sdapi/v1/skip",
    "/sdapi/v1/txt2img",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/images/edits",
    "/v1/images/generations",
    "/v1/images/variations",
    "/v1/jobs",
    "/v1/jobs/batches/{batch_id}/cancel",
    "/v1/jobs/batches/{batch_id}/retry-failed",
    "/v1/jobs/{job_id}/cancel",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/webhook_endpoints",
    "/v1/webhook_endpoints/{endpoint_id}",
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    "/v1/webhook_endpoints/{endpoint_id}/test",
    "/v1/webhook_secret/rotate",
}
"""Paths that take something from any key: they ask for answers, or touch the caller's own jobs only."""


async def test_every_route_that_changes_the_house_is_known(settings: Settings) -> None:
    """A new route that is not among these has to be looked at: is it for everybody?"""
    routes = {
        (method.upper(), path)
        for path, operations in create_app(settings).openapi()["paths"].items()
        for method in operations
        if method in ("post", "patch", "put", "delete")
    }
    for_everybody = {path for _, path in routes - ADMIN_ROUTES}
    assert for_everybody == FOR_EVERYBODY
