"""A server in a process of its own, which dies at the wrong moment."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any

import httpx
import pytest
import redis
from standardwebhooks import Webhook

from cli import webhooks
from cli.client import Client
from cli.errors import CliError
from config.settings import Settings
from tasks import keys
from tests.api.conftest import client_of, serve
from tests.api.support import ask
from tests.api.webhooks.receiver import Receiver, heard
from tests.api.webhooks.test_courier import settled

ALLOWED = {"HEARTH_WEBHOOKS__PRIVATE_NETWORKS": json.dumps(["127.0.0.0/8"])}


async def test_a_process_killed_while_it_delivers_loses_nothing(
    settings: Settings, house: redis.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed between the end of a job and the receiver's answer; the next process sends the same event."""
    caplog.set_level("INFO")
    first = await asyncio.to_thread(serve, settings, **ALLOWED)
    await asyncio.to_thread(_by_command_line, first.url, receiver)

    def kill(_: Any) -> None:
        first.process.kill()
        first.process.wait()

    receiver.answers.append(kill)
    before = len(receiver.heard)
    async with httpx.AsyncClient(base_url=first.url, timeout=20) as client:
        job = (await client.post("/v1/jobs", json=ask(webhook=receiver.url))).json()
        with suppress(httpx.TransportError):  # its answer and its death are on the way together
            await client.post(job["urls"]["cancel"])
    assert await asyncio.to_thread(first.process.wait, 20) == -9
    letters: Any = house.zrange(keys.OUTBOX, 0, -1)
    house.zadd(keys.OUTBOX, {letters[0]: 0})  # its lease has run out
    async with client_of(settings) as client:
        lost, came = (await heard(receiver, before + 2))[before:]
        assert came.headers["webhook-id"] == lost.headers["webhook-id"]
        assert came.body == lost.body
        secret = (await client.get("/v1/webhook_secret")).json()["secret"]
        assert Webhook(secret).verify(came.body, came.headers)["data"]["id"] == job["id"]
        assert [each["state"] for each in await settled(client, job)] == ["delivered"]
    log = first.log.read_text() + caplog.text
    assert f"({came.event['type']}) to http://127.0.0.1:{receiver.port}: delivered at attempt 2" in log
    assert secret not in log
    assert "/hook" not in log, "the path of a webhook is often its secret"


def _by_command_line(url: str, receiver: Receiver) -> None:
    """The server as ``hearth webhooks`` sees it."""
    with Client(url) as client:
        assert _said(webhooks.secret, client, rotate=False).startswith("whsec_")
        secret = _said(webhooks.add, client, receiver.url, ["job.failed"], name="mine").strip()
        listed = _said(webhooks.ls, client)
        assert receiver.url in listed
        assert secret not in listed
        assert webhooks.test(client, "mine", "job.failed", key=None, as_json=False) == 0
        told = receiver.wait(1)[0]
        assert Webhook(secret).verify(told.body, told.headers)["type"] == "job.failed"
        receiver.answers.append(500)
        assert webhooks.test(client, "mine", "job.failed", key=None, as_json=False) == 1
        webhooks.revoke(client, "mine", key=None, as_json=False)
        with pytest.raises(CliError, match="there is no webhook"):
            webhooks.revoke(client, "mine", key=None, as_json=False)
        with pytest.raises(CliError, match=r"webhooks\.allowed_hosts"):
            webhooks.add(client, "https://elsewhere.example/", [], name=None, key=None, as_json=False)


def _said(command: Callable[..., None], *args: Any, **options: Any) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        command(*args, **options, key=None, as_json=False)
    return out.getvalue()
