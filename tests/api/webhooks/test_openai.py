"""OpenAI's own client and webhooks: endpoints, signatures, typed events of batches and responses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import openai
import pytest
import redis

from config.settings import Settings
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask
from tests.api.webhooks.receiver import Heard, Receiver, heard

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


@pytest.fixture
async def sdk(settings: Settings, house: redis.Redis) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of a Hearth in this process."""
    async with client_of(settings) as client:

        class Bridge(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request: Any) -> Any:
                answer = await client.request(
                    request.method,
                    str(request.url),
                    headers=dict(request.headers),
                    content=await request.aread(),
                )
                return httpx2.Response(
                    answer.status_code, headers=dict(answer.headers), content=answer.content
                )

        yield openai.AsyncOpenAI(
            base_url=f"{str(client.base_url).rstrip('/')}/v1",
            api_key="none",
            http_client=httpx2.AsyncClient(transport=Bridge()),
            max_retries=0,
        )


async def registered(sdk: openai.AsyncOpenAI, receiver: Receiver, *events: Any) -> openai.OpenAI:
    """Who unwraps what the receiver hears of these events."""
    made = await sdk.webhooks.create(name="mine", url=receiver.url, event_types=list(events))
    return openai.OpenAI(api_key="none", webhook_secret=made.signing_secret)


def unwrapped(client: openai.OpenAI, request: Heard) -> Any:
    return client.webhooks.unwrap(request.body, request.headers)


async def test_openais_sdk_registers_tests_and_unwraps(sdk: openai.AsyncOpenAI, receiver: Receiver) -> None:
    made = await sdk.webhooks.create(
        name="mine", url=receiver.url, event_types=["batch.completed", "response.completed"]
    )
    assert made.signing_secret.startswith("whsec_")
    listed = [each async for each in sdk.webhooks.list()]
    assert [(each.id, each.name, each.url) for each in listed] == [(made.id, "mine", receiver.url)]
    assert "signing_secret" not in listed[0].model_dump()
    tried = await sdk.webhooks.test(made.id, event_type="batch.completed")
    assert (tried.status_code, tried.webhook_endpoint_id) == (204, made.id)
    (request,) = await heard(receiver)
    client = openai.OpenAI(api_key="none", webhook_secret=made.signing_secret)
    event = client.webhooks.unwrap(request.body, request.headers)
    assert type(event).__name__ == "BatchCompletedWebhookEvent"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(request.body + b" ", request.headers)

    rotated = await sdk.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    await sdk.webhooks.test(made.id, event_type="response.completed")
    request = (await heard(receiver, 2))[1]
    for secret in (made.signing_secret, rotated.signing_secret):
        event = openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(
            request.body, request.headers
        )
        assert type(event).__name__ == "ResponseCompletedWebhookEvent"

    changed = await sdk.webhooks.update(made.id, name="yours", event_types=["batch.failed"])
    assert (changed.name, changed.event_types) == ("yours", ["batch.failed"])
    assert (await sdk.webhooks.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.webhooks.retrieve(made.id)


async def _batch(sdk: openai.AsyncOpenAI, *lines: Any) -> str:
    body = "".join(json.dumps(line) + "\n" for line in lines)
    file = await sdk.files.create(file=("requests.jsonl", body.encode()), purpose="batch")
    made = await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    return made.id


def line(name: str, text: str) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": ask(text)}


async def test_the_end_of_a_batch_is_told(
    sdk: openai.AsyncOpenAI, worker: StandIn, receiver: Receiver
) -> None:
    """Of the batch, and of none of its lines."""
    client = await registered(sdk, receiver, "batch.completed", "batch.failed", "batch.cancelled")
    batch = await _batch(sdk, line("a", "say a"), line("b", "lost"))
    event = unwrapped(client, (await heard(receiver))[0])
    assert type(event).__name__ == "BatchCompletedWebhookEvent"
    assert (event.type, event.data.id, event.object) == ("batch.completed", batch, "event")
    assert (await sdk.batches.retrieve(batch)).status == "completed"

    failed = await _batch(sdk, line("a", "say a"), line("a", "the same name"))
    event = unwrapped(client, (await heard(receiver, 2))[1])
    assert (type(event).__name__, event.data.id) == ("BatchFailedWebhookEvent", failed)

    worker.pause()
    cancelled = await _batch(sdk, line("a", "say a"))
    await sdk.batches.cancel(cancelled)
    event = unwrapped(client, (await heard(receiver, 3))[2])
    assert (type(event).__name__, event.data.id) == ("BatchCancelledWebhookEvent", cancelled)
    assert len(receiver.heard) == 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("say a", "response.completed"),
        ("length a", "response.incomplete"),
        ("lost", "response.failed"),
        ("wait", "response.cancelled"),
    ],
)
async def test_the_end_of_a_background_response_is_told(
    sdk: openai.AsyncOpenAI, worker: StandIn, receiver: Receiver, text: str, kind: str
) -> None:
    events = ("completed", "incomplete", "failed", "cancelled")
    client = await registered(sdk, receiver, *(f"response.{each}" for each in events))
    made = await sdk.responses.create(model="tiny-chat", input=text, background=True)
    if text == "wait":
        await sdk.responses.cancel(made.id)
    event = unwrapped(client, (await heard(receiver))[0])
    assert (event.type, event.data.id) == (kind, made.id)
    assert (await sdk.responses.retrieve(event.data.id)).status == kind.partition(".")[2]


async def test_a_response_that_somebody_waits_for_is_not_told(
    sdk: openai.AsyncOpenAI, worker: StandIn, receiver: Receiver, house: redis.Redis
) -> None:
    await registered(sdk, receiver, "response.completed")
    await sdk.responses.create(model="tiny-chat", input="say a")
    background = await sdk.responses.create(model="tiny-chat", input="say b", background=True)
    (request,) = await heard(receiver)
    assert request.event["data"] == {"id": background.id}
