"""The state of the house, told without asking a card."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
import redis

from api.context import VERSION
from api.errors import WEB_UI
from api.jobs.schemas import CardList, QueueOut
from config.settings import CHECKOUT, Settings
from tasks import board, keys
from tasks.board import Hold
from tests.api.conftest import client_of
from tests.api.support import BROKEN, CARD, TINY, StandIn, ask, publish


async def test_health_says_that_the_process_lives(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/health"):
        response = await client.get(path)
        assert response.status_code == 200
        assert response.json()["status"] == "ok"
        assert (await client.head(path)).status_code == 200


def test_the_version_is_the_projects() -> None:
    assert f'version = "{VERSION}"' in (CHECKOUT / "pyproject.toml").read_text()


async def test_a_house_that_is_well_is_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/ready")
    assert response.status_code == 200
    assert response.json()["why"] == []
    assert (await client.head("/ready")).status_code == 200


@pytest.mark.parametrize(
    ("missing", "check", "word"),
    [
        (keys.CATALOG, "catalog", "starting"),
        (keys.heartbeat(CARD), "worker", "card"),
        (keys.MONITOR, "monitor", "monitor"),
    ],
)
async def test_what_is_missing_is_named(
    settings: Settings, house: redis.Redis, missing: str, check: str, word: str
) -> None:
    house.delete(missing)
    async with client_of(settings) as client:
        response = await client.get("/ready")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    body = response.json()
    assert body["ready"] is body["checks"][check] is False
    assert any(line.startswith(f"{check}: ") and word in line for line in body["why"])


async def test_a_held_card_is_not_ready_and_says_why(settings: Settings, house: redis.Redis) -> None:
    house.set(keys.hold(CARD), board.encode(Hold("thermal", "81 °C, waiting for 70 °C", 1_700_000_000_000)))
    async with client_of(settings) as client:
        body = (await client.get("/ready")).json()
        assert body["checks"]["card"] is False
        assert "81 °C" in body["why"][0]
        (card,) = (await client.get("/v1/device")).json()["data"]
        assert card["hold"] == {
            "reason": "thermal", "message": "81 °C, waiting for 70 °C", "since": 1_700_000_000.0
        }  # fmt: skip
        (hold,) = (await client.get("/v1/queue")).json()["holds"]
        assert (hold["card"], hold["reason"]) == (CARD, "thermal")


async def test_a_lost_card_that_nobody_serves_says_what_becomes_of_it(
    settings: Settings, house: redis.Redis
) -> None:
    house.delete(keys.heartbeat(CARD))
    house.set(keys.hold(CARD), board.encode(Hold("card_lost", "it boots anew", 1_700_000_000_000)))
    async with client_of(settings) as client:
        why = (await client.get("/ready")).json()["why"]
    assert f"card: {CARD} is held (card_lost): it boots anew" in why


async def test_models_that_cannot_be_used_do_not_make_a_house_ready(
    settings: Settings, store: redis.Redis
) -> None:
    publish(store, BROKEN)
    async with client_of(settings) as client:
        assert (await client.get("/ready")).json()["checks"]["catalog"] is False


async def test_without_redis_nothing_is_ready_but_the_process_lives(settings: Settings) -> None:
    assert settings.redis_url is not None
    gone = settings.model_copy(update={"redis_url": type(settings.redis_url)("unix:///nowhere/redis.sock")})
    async with client_of(gone) as client:
        response = await client.get("/ready")
        assert response.status_code == 503
        assert response.json()["checks"]["redis"] is False
        assert (await client.get("/health")).status_code == 200


async def test_the_card_says_that_it_is_virtual(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/device")).json()
    CardList.model_validate(listed)
    (card,) = listed["data"]
    assert card["virtual"] is True
    assert card["telemetry"]["temperature_c"] == 41.5
    assert card["telemetry"]["npu_percent"] is None
    assert [resident["model"] for resident in card["residents"]] == ["tiny-chat"]
    assert card["heartbeat"]["busy"] is False


async def test_a_card_nobody_has_told_of_has_no_facts(settings: Settings, store: redis.Redis) -> None:
    store.sadd(keys.CARDS, "lost")
    async with client_of(settings) as client:
        (card,) = (await client.get("/v1/device")).json()["data"]
    assert (card["id"], card["virtual"], card["telemetry"], card["heartbeat"]) == ("lost", False, None, None)


async def test_the_queue_is_counted(client: httpx.AsyncClient, worker: StandIn) -> None:
    worker.pause()
    for job_class in ("chat", "batch", "batch"):
        await client.post("/v1/jobs", json={**ask("wait"), "class": job_class})
    told = (await client.get("/v1/queue")).json()
    QueueOut.model_validate(told)
    assert told["queued"] == 3
    assert [(row["name"], row["class"], row["queued"]) for row in told["queues"]] == [
        ("chat.tiny-chat", "chat", 1),
        ("batch.tiny-chat", "batch", 2),
    ]


async def test_models_are_listed_with_those_that_cannot_be_used_apart(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["tiny-chat", "pictures"]
    assert [model["id"] for model in listed["unusable"]] == ["broken"]
    assert listed["data"][0]["hearth"]["is_resident"] is True
    for name in ("tiny-chat", "org/tiny-chat", "TINY"):
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == "tiny-chat"
    assert "download" in (await client.get("/v1/models/broken")).json()["hearth"]["problem"]
    assert (await client.get("/v1/models/none")).status_code == 404


async def test_models_tell_what_they_need_and_whether_a_card_can_hold_it(
    settings: Settings, house: redis.Redis
) -> None:
    needs = {"small": 7_381_975_040, "large": 7_381_975_041}
    found = [
        replace(TINY, id=name, aliases=(), needs_bytes=size, needs_basis="measured")
        for name, size in needs.items()
    ]
    publish(house, *found, BROKEN)
    async with client_of(settings) as client:
        facts = {
            name: (await client.get(f"/v1/models/{name}")).json()["hearth"] for name in (*needs, "broken")
        }
    assert [facts[name]["fits"] for name in facts] == [True, False, None]
    assert facts["small"]["needs_bytes"] == needs["small"]
    residents = board.decode(board.Residents, house.get(keys.residents(CARD)))
    assert residents is not None
    house.set(keys.residents(CARD), board.encode(replace(residents, is_virtual=False)))
    async with client_of(settings) as client:
        small = (await client.get("/v1/models/small")).json()["hearth"]
    assert small["fits"] is False, "on a real card a margin stays free"


async def test_the_documentation_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    for words in ("/v1/chat/completions", "Idempotency-Key", "max_completion_tokens", "ChatCompletion"):
        assert words in page.text


async def test_the_openapi_document_points_at_what_is_there(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json")
    document = response.json()
    text = response.text
    for name in document["components"]["schemas"]:
        assert name not in ("HTTPValidationError", "ValidationError")
    pointed = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert pointed <= set(document["components"]["schemas"])
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"]
            assert "422" not in operation["responses"] or path.startswith(WEB_UI)
