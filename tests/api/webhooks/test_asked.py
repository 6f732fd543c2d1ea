"""What requests may say of webhooks, and whose endpoints are whose."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from config.keyring import Keyring, Scope
from config.settings import Settings, SettingsError, read_settings
from tasks import keys
from tests.api.conftest import client_of
from tests.api.support import PICTURES, TEXTS, TINY, ask, publish
from tests.api.webhooks.receiver import Receiver

HERE = "http://127.0.0.1:9/"
JOB_EVENTS = "job.succeeded, job.failed"


AT_FAULT: list[tuple[Any, str, str]] = [
    ("https://elsewhere.example/", "webhook", "webhooks.allowed_hosts"),
    ("http://192.168.1.1/", "webhook", "webhooks.private_networks"),
    ("https://me@hooks.example/", "webhook", "user"),
    ({"url": "https://elsewhere.example/"}, "webhook.url", "webhooks.allowed_hosts"),
    ({"events": ["job.failed"]}, "webhook.url", "an address"),
    ({"url": 7}, "webhook.url", "an address"),
    ({"url": HERE, "events": ["batch.completed"]}, "webhook.events[0]", JOB_EVENTS),
    ({"url": HERE, "events": ["job.failed", {}]}, "webhook.events[1]", JOB_EVENTS),
    ({"url": HERE, "events": []}, "webhook.events", "at least one"),
    ({"url": HERE, "events": "job.failed"}, "webhook.events", "a list"),
    ({"url": HERE, "secret": "x"}, "webhook", "'secret'"),
    (7, "webhook", "a URL"),
    ([HERE], "webhook", "a URL"),
]
BODIES = {
    "chat": ask(),
    "image": {"kind": "image", "prompt": "a house"},
    "embed": {"kind": "embed", "input": "a house"},
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_webhook_at_fault_is_named_and_nothing_is_queued(
    client: httpx.AsyncClient, house: redis.Redis, kind: str
) -> None:
    publish(house, TINY, PICTURES, TEXTS)
    for webhook, param, says in AT_FAULT:
        body = {**BODIES[kind], "webhook": webhook}
        response = await client.post("/v1/jobs", json=body)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param), error
        assert says in error["message"]
        listed = await client.post("/v1/jobs", json=[ask(), body])
        assert listed.json()["error"]["param"] == f"[1].{param}"
    assert not house.exists(keys.JOBS)


async def test_a_grid_has_one_webhook(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json=ask(grid={"webhook": [HERE]}))
    assert response.json()["error"]["param"] == "grid.webhook"


async def test_null_is_no_webhook(client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json=ask(webhook=None))).json()
    assert job["webhooks"] == []


async def test_an_endpoint_at_fault_is_named(client: httpx.AsyncClient) -> None:
    at_fault: list[tuple[Any, str]] = [
        ({}, "url"),
        ({"url": "https://elsewhere.example/"}, "url"),
        ({"url": HERE, "event_types": []}, "event_types"),
        ({"url": HERE, "event_types": ["eval.run.failed"]}, "event_types[0]"),
        ({"url": HERE, "name": "x" * 65}, "name"),
        ({"url": HERE, "key": "nobody"}, "key"),
        ({"url": HERE, "secret": "mine"}, "secret"),
    ]
    for body, param in at_fault:
        response = await client.post("/v1/webhook_endpoints", json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert (await client.get("/v1/webhook_endpoints")).json()["data"] == []


async def test_a_key_has_so_many_endpoints(settings: Settings, house: redis.Redis) -> None:
    few = settings.webhooks.model_copy(update={"per_key": 2})
    async with client_of(settings.model_copy(update={"webhooks": few})) as client:
        made = [await client.post("/v1/webhook_endpoints", json={"url": HERE}) for _ in range(3)]
        assert [each.status_code for each in made] == [200, 200, 400]
        assert "webhooks.per_key" in made[2].json()["error"]["message"]
        page = (await client.get("/v1/webhook_endpoints?limit=1")).json()
        assert page["has_more"]
        rest = (await client.get(f"/v1/webhook_endpoints?after={page['last_id']}")).json()
        assert [each["id"] for each in page["data"] + rest["data"]] == [
            each.json()["id"] for each in made[:2]
        ]
        assert (await client.get("/v1/webhook_endpoints?after=we_0")).json()["error"]["param"] == "after"


async def test_an_endpoint_is_its_owners_alone(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    mine, theirs, keeper = (
        {"Authorization": f"Bearer {ring.add(name, scope)[1]}"}
        for name, scope in (("mine", Scope.INFER), ("theirs", Scope.INFER), ("keeper", Scope.ADMIN))
    )
    async with client_of(settings) as client:
        made = await client.post("/v1/webhook_endpoints", json={"url": HERE}, headers=mine)
        here = f"/v1/webhook_endpoints/{made.json()['id']}"
        assert (await client.get(here, headers=mine)).status_code == 200
        for method, path, body in (
            ("GET", here, None),
            ("POST", here, {"name": "theirs"}),
            ("POST", here + "/rotate_secret", {}),
            ("POST", here + "/test", {"event_type": "job.failed"}),
            ("DELETE", here, None),
        ):
            answer = await client.request(method, path, json=body, headers=theirs)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "webhook_not_found")
            other = await client.request(method, path + "?key=mine", json=body, headers=theirs)
            assert other.status_code == 403
        assert (await client.get("/v1/webhook_endpoints", headers=keeper)).json()["data"] == []
        listed = (await client.get("/v1/webhook_endpoints?key=mine", headers=keeper)).json()["data"]
        assert [each["url"] for each in listed] == [HERE]
        secrets = [(await client.get("/v1/webhook_secret", headers=each)).json() for each in (mine, theirs)]
        assert secrets[0] != secrets[1]
        assert (await client.get("/v1/webhook_secret?key=mine", headers=keeper)).json() == secrets[0]
        await client.post("/v1/webhook_secret/rotate", headers=mine)
        assert (await client.get("/v1/webhook_secret", headers=mine)).json() != secrets[0]


async def test_a_test_that_reaches_nobody_says_why(client: httpx.AsyncClient, receiver: Receiver) -> None:
    made = (await client.post("/v1/webhook_endpoints", json={"url": "http://127.0.0.1:1/"})).json()
    here = f"/v1/webhook_endpoints/{made['id']}/test"
    answer = await client.post(here, json={"event_type": "job.failed"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "webhook_unreached")
    assert "no connection" in answer.json()["error"]["message"]
    wrong = await client.post(here, json={"event_type": "job.batch"})
    assert wrong.json()["error"]["param"] == "event_type[0]"


@pytest.mark.parametrize(
    ("settings_of", "says"),
    [
        ({"allowed_hosts": ["https://a.example/"]}, "hooks.example.org"),
        ({"allowed_hosts": ["*.*.example"]}, "hooks.example.org"),
        ({"allowed_hosts": [""]}, "hooks.example.org"),
        ({"private_networks": ["0.0.0.0/0"]}, "not a private network"),
        ({"private_networks": ["::/0"]}, "not a private network"),
        ({"private_networks": ["8.8.8.0/24"]}, "not a private network"),
        ({"private_networks": ["192.168.1.7/24"]}, "private_networks"),
        ({"timeout_s": 6}, "timeout_s"),
    ],
)
def test_settings_that_would_open_too_much_are_refused(settings_of: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says.replace(".", r"\.")):
        read_settings(webhooks=settings_of)


async def test_without_settings_nobody_can_be_told(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings.model_copy(update={"webhooks": read_settings().webhooks})) as client:
        for url in (HERE, "https://hooks.example.org/"):
            for path, body in (("/v1/jobs", ask(webhook=url)), ("/v1/webhook_endpoints", {"url": url})):
                error = (await client.post(path, json=body)).json()["error"]
                assert error["code"] == "webhook_not_allowed"
                assert "webhooks." in error["message"]


async def test_the_servers_own_key_has_a_secret_of_its_own(settings: Settings, house: redis.Redis) -> None:
    async with client_of(settings.model_copy(update={"api_key": SecretStr("s3cret")})) as client:
        told = await client.get("/v1/webhook_secret", headers={"Authorization": "Bearer s3cret"})
        assert told.json()["secret"].startswith("whsec_")
