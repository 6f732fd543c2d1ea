"""Web pages of others: by which name they ask, across which sites, and what browsers are told."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import redis
from pydantic import SecretStr

from api.headers import EXPOSED
from api.visitors import is_ours, is_own_page, names_of
from config.settings import CHECKOUT, Settings, read_settings
from tests.api.conftest import client_of
from tests.api.routes import changing
from tests.api.support import ask

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there
PAGE = "https://chat.home.arpa"
ELSEWHERE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def _with(settings: Settings, **more: object) -> Settings:
    return settings.model_copy(update=more)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8850", "app.localhost", "127.0.0.1:8850", "127.1.2.3", "[::1]:8850", ""]
)
async def test_on_loopback_its_own_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8850",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.nip.io",
        EVERYWHERE,
        "192.168.1.2",
        "[::]",
        "localhost@evil.example",
        "\xff",
    ],
)
async def test_a_page_whose_name_was_made_to_point_here_gets_nothing(
    client: httpx.AsyncClient, host: str
) -> None:
    for path in ("/v1/models", "/health", "/"):
        refused = await client.get(path, headers=[(b"Host", host.encode("latin-1"))])
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (403, "host_not_allowed")
        assert "HEARTH_HOSTS" in error["message"]


async def test_the_refusal_speaks_the_dialect_of_its_path(client: httpx.AsyncClient) -> None:
    for path, field in (("/api/tags", "error"), ("/sdapi/v1/samplers", "detail")):
        refused = await client.get(path, headers={"Host": "evil.example"})
        assert (refused.status_code, "hosts" in refused.json()[field]) == (403, True)


async def test_names_that_an_operator_sets_are_answered_too(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with(settings, hosts=("hearth.local", "*.home.arpa"))) as client:
        for host, status in (
            ("hearth.local:8850", 200),
            ("Hearth.Local.", 200),
            ("card.home.arpa", 200),
            ("localhost", 200),
            ("home.arpa", 403),
            ("other.local", 403),
        ):
            assert (await client.get("/v1/models", headers={"Host": host})).status_code == status, host


@pytest.mark.parametrize(
    ("host", "hosts", "name", "ours"),
    [
        (EVERYWHERE, (), "anything.example", True),
        (EVERYWHERE, ("hearth.local",), "anything.example", False),
        (EVERYWHERE, ("hearth.local",), "hearth.local:8850", True),
        ("192.168.1.2", ("hearth.local",), "192.168.1.2:8850", True),
        ("192.168.1.2", ("hearth.local",), EVERYWHERE, False),
        ("::1", (), "[::1]", True),
    ],
)
def test_beyond_loopback_names_count_once_some_are_set(
    host: str, hosts: tuple[str, ...], name: str, ours: bool
) -> None:
    names = names_of(read_settings(host=host, hosts=hosts, api_key="k"))
    assert (names is None or is_ours(name, names)) is ours


@pytest.mark.parametrize(
    ("origin", "site", "own"),
    [
        ("", "", True),  # no browser
        ("", "same-origin", True),
        ("", "none", True),
        ("http://localhost:8850", "", True),  # a browser of before 2023
        ("http://localhost:3000", "", False),
        ("http://localhost:3000", "same-site", False),
        ("https://evil.example", "cross-site", False),
        ("null", "", False),
        ("http://localhost:8850", "cross-site", False),
    ],
)
def test_which_pages_are_our_own(origin: str, site: str, own: bool) -> None:
    assert is_own_page("localhost:8850", origin, site) is own


async def test_no_page_of_another_origin_changes_anything(settings: Settings, house: redis.Redis) -> None:
    """Forms and POSTs without a body go across sites unasked; every route that changes something refuses."""
    routes = changing(settings)
    assert ("POST", "/sdapi/v1/interrupt") in routes
    async with client_of(settings) as client:
        for method, path in routes:
            refused = await client.request(method, path, headers=ELSEWHERE)
            assert refused.status_code == 403, path
            assert "cors_origins" in refused.text, path


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_across_sites_makes_no_job(
    client: httpx.AsyncClient, store: redis.Redis, kind: str
) -> None:
    """What a browser sends without asking first: these types, an origin, no way to leave it out."""
    for path in ("/v1/images/edits", "/v1/jobs", "/v1/chat/completions"):
        refused = await client.post(
            path, content=b"{}", headers={"Content-Type": kind, "Origin": "http://evil.example"}
        )
        assert refused.json()["error"]["code"] == "origin_not_allowed"
    assert store.exists("hearth:jobs") == 0


async def test_a_key_does_not_help_a_foreign_page(settings: Settings, house: redis.Redis) -> None:
    """A browser sends a password along unasked."""
    async with client_of(_with(settings, api_key=SecretStr("s3cret"))) as client:
        refused = await client.post("/sdapi/v1/interrupt", headers=ELSEWHERE, auth=("any", "s3cret"))
        assert refused.status_code == 403


async def test_no_page_is_let_in_unless_named(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models", headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in response.headers
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    response = await client.options("/v1/chat/completions", headers=asking)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers


async def test_a_page_that_may_ask_can(settings: Settings, house: redis.Redis) -> None:
    may = _with(settings, cors_origins=(PAGE,), api_key=SecretStr("s3cret"))
    wanted = "authorization,content-type,idempotency-key,last-event-id,x-stainless-read-timeout"
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    async with client_of(may) as client:
        told = await client.options("/v1/jobs", headers={**asking, "Origin": PAGE})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, PAGE)
        assert told.headers["access-control-allow-headers"] == wanted
        assert "access-control-allow-credentials" not in told.headers
        key = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site", "Authorization": "Bearer s3cret"}
        made = await client.post("/v1/jobs", json=ask(), headers=key)
        assert (made.status_code, made.headers["access-control-allow-origin"]) == (202, PAGE)
        assert "x-job-id" in made.headers["access-control-expose-headers"]
        for refused in (
            await client.post("/v1/jobs", json=ask(), headers={"Origin": PAGE}),
            await client.post("/v1/jobs", json={}, headers=key),
        ):
            assert refused.headers["access-control-allow-origin"] == PAGE, "the page cannot read why"
        other = await client.options("/v1/jobs", headers={**asking, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert (await client.post("/v1/jobs", json=ask(), headers={**key, **ELSEWHERE})).status_code == 403


async def test_every_page_only_with_a_key(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with(settings, cors_origins=("*",), api_key=SecretStr("s3cret"))) as client:
        made = await client.post(
            "/v1/jobs", json=ask(), headers={**ELSEWHERE, "Authorization": "Bearer s3cret"}
        )
        assert (made.status_code, made.headers["access-control-allow-origin"]) == (202, "*")
        assert "access-control-allow-credentials" not in made.headers


async def test_every_answer_says_what_a_browser_must_not_do(client: httpx.AsyncClient) -> None:
    answers = {
        "metadata": await client.get("/v1/models"),
        "a page": await client.get("/docs"),
        "unknown": await client.get("/nowhere"),
        "a stranger": await client.get("/v1/models", headers={"Host": "evil.example"}),
        "a bad request": await client.post("/v1/jobs", json={}),
    }
    for what, answer in answers.items():
        assert answer.headers["x-content-type-options"] == "nosniff", what
        assert answer.headers["x-frame-options"] == "DENY", what
        assert answer.headers["referrer-policy"] == "no-referrer", what
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", what
        assert answer.headers["cache-control"] == "no-store", what
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], what
        assert len(answer.headers.get_list("content-security-policy")) == 1, what


def test_headers_of_ours_are_shown_to_pages_that_may_ask() -> None:
    """A header that a page may want must stand in the list: browsers hide all others from it."""
    taken = {"x-hearth-keep", "x-hearth-strict", "x-openwebui-task", "x-stainless-read-timeout"}
    hidden = {"x-accel-buffering", "x-content-type-options", "x-frame-options"}
    found = {
        word
        for path in Path(CHECKOUT, "api").rglob("*.py")
        for word in path.read_text().split('"')
        if word.startswith("x-") and word.replace("-", "").isalnum()
    }
    assert "x-job-id" in found
    assert found - taken - hidden <= {name.lower() for name in EXPOSED}
