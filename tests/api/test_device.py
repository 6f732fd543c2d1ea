"""Thresholds that change while Hearth runs, and the card's last day."""

from __future__ import annotations

import httpx
import pytest
import redis

from config.settings import Settings
from tasks import board, keys, thresholds
from tests.api.support import CARD

PATH = "/v1/device/thresholds"


async def test_without_changes_the_configured_values_are_in_force(client: httpx.AsyncClient) -> None:
    told = (await client.get(PATH)).json()
    assert told["changed"] == []
    assert told["hold_c"] == told["configured"]["hold_c"] == 80
    assert set(told["configured"]) == set(thresholds.NAMES)


async def test_a_change_is_kept_and_can_be_taken_back(
    client: httpx.AsyncClient, settings: Settings, store: redis.Redis
) -> None:
    told = (await client.patch(PATH, json={"hold_c": 82.5, "missing_polls": 5})).json()
    assert (told["hold_c"], told["missing_polls"], told["changed"]) == (82.5, 5, ["hold_c", "missing_polls"])
    stored = store.get(keys.THRESHOLDS)
    assert isinstance(stored, bytes)
    assert thresholds.effective(settings.thermal, stored).hold_c == 82.5
    assert store.ttl(keys.THRESHOLDS) == -1
    told = (await client.patch(PATH, json={"hold_c": None, "missing_polls": None})).json()
    assert (told["hold_c"], told["changed"]) == (80, [])
    assert not store.exists(keys.THRESHOLDS)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"hold_c": 74.0}, "ease_c"),
        ({"resume_c": 76.0}, "resume_c"),
        ({"unload_c": 80.0}, "hold_c"),
        ({"hold_c": 200.0}, "hold_c"),
        ({"hold_c": "80"}, "hold_c"),
        ({"missing_polls": 0}, "missing_polls"),
        ({"least_duty": 0.0}, "least_duty"),
        ({"poll_s": 1.0}, "poll_s"),
        ({"hold": 80.0}, "hold"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    client: httpx.AsyncClient, store: redis.Redis, body: dict[str, object], param: str
) -> None:
    response = await client.patch(PATH, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not store.exists(keys.THRESHOLDS)


def test_changes_that_no_longer_fit_the_configuration_are_ignored(settings: Settings) -> None:
    thermal = settings.thermal.model_copy(update={"ease_c": 60.0, "hold_c": 65.0, "resume_c": 55.0})
    assert thresholds.effective(thermal, b'{"resume_c": 72.0}') == thermal


async def test_the_history_is_told_oldest_first(client: httpx.AsyncClient, store: redis.Redis) -> None:
    for minute in range(90):
        point = board.Minute(minute * 60_000, 40.0 + minute, 41.0 + minute, 50.0, None, 1.0, 0)
        store.lpush(keys.history(CARD), board.encode(point))
    told = (await client.get("/v1/device/history")).json()
    assert told["card"] == CARD
    assert [point["at"] for point in told["data"]] == [minute * 60 for minute in range(90)]
    told = (await client.get("/v1/device/history", params={"hours": 1})).json()
    assert len(told["data"]) == 60
    assert told["data"][-1]["max_c"] == 130.0
    assert (await client.get("/v1/device/history", params={"card": "none"})).status_code == 400


async def test_an_eased_card_tells_its_share(client: httpx.AsyncClient, store: redis.Redis) -> None:
    store.set(keys.ease(CARD), board.encode(board.Ease(0.75, 0)))
    (card,) = (await client.get("/v1/device")).json()["data"]
    assert card["duty"] == 0.75
