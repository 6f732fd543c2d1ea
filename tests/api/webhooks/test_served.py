"""Servers in processes of their own, which die at the wrong moment."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import redis
from standardwebhooks import Webhook

from config.settings import Settings
from tasks import keys
from tests.api.conftest import serve
from tests.api.support import ask, until
from tests.api.webhooks.receiver import Receiver

ALLOWED = {"HEARTH_WEBHOOKS__PRIVATE_NETWORKS": json.dumps(["127.0.0.0/8"])}


def test_a_process_killed_while_it_delivers_loses_nothing(
    settings: Settings, house: redis.Redis, receiver: Receiver
) -> None:
    """Killed between the end of a job and the receiver's answer; the next process sends the same event."""
    first = serve(settings, **ALLOWED)

    def kill(_: Any) -> None:
        first.process.kill()
        first.process.wait()

    receiver.answers.append(kill)
    job = httpx.post(f"{first.url}/v1/jobs", json=ask(webhook=receiver.url)).json()
    with suppress(httpx.TransportError):  # its answer and its death are on the way together
        httpx.post(first.url + job["urls"]["cancel"])
    assert first.process.wait(10) == -9
    second = serve(settings, **ALLOWED)
    try:
        letters: Any = house.zrange(keys.OUTBOX, 0, -1)
        house.zadd(keys.OUTBOX, {letters[0]: 0})  # its lease has run out
        house.xadd(keys.POSTED, {"p": ""})
        lost, came = receiver.wait(2)
        assert came.headers["webhook-id"] == lost.headers["webhook-id"]
        assert came.body == lost.body
        secret = httpx.get(f"{second.url}/v1/webhook_secret").json()["secret"]
        assert Webhook(secret).verify(came.body, came.headers)["data"]["id"] == job["id"]
        until(lambda: _states(second.url, job) == ["delivered"])
    finally:
        assert second.terminate() == 0
    log = first.log.read_text() + second.log.read_text()
    assert secret not in log
    assert "/hook" not in log, "the path of a webhook is often its secret"


def _states(url: str, job: dict[str, Any]) -> list[str]:
    return [each["state"] for each in httpx.get(url + job["urls"]["self"]).json()["webhooks"]]
