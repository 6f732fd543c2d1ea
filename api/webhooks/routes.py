"""Registered endpoints, in OpenAI's shapes, and the secret for addresses that jobs name themselves."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import auth, context
from api.context import Context
from api.errors import Refusal
from api.limits import read_json
from api.openai.request import validated
from api.respond import as_json, body_schema, errors
from api.webhooks.asked import allowed, checked_events
from api.webhooks.schemas import (
    EndpointChange,
    EndpointDeleted,
    EndpointList,
    EndpointOut,
    EndpointRequest,
    EndpointWithSecret,
    RotateRequest,
    SecretOut,
    TrialOut,
    TrialRequest,
)
from api.webhooks.targets import origin_of
from api.webhooks.wire import Unreached
from config.keyring import Keyring, KeyringError
from tasks.webhooks import endpoints
from tasks.webhooks.endpoints import Endpoint
from tasks.webhooks.words import EVENTS

router = APIRouter(tags=["Webhooks"])

_OLD_SECRET_MS = 24 * 3600 * 1000
KeyName = Annotated[
    str | None, Query(description="Name or id of the API key whose endpoints are meant, for `admin` keys.")
]


@router.post(
    "/v1/webhook_endpoints",
    response_model=EndpointWithSecret,
    responses=errors(400, 403, 415, 503),
    openapi_extra=body_schema(EndpointRequest),
    operation_id="create_webhook_endpoint",
)
async def create(request: Request) -> Response:
    """Register an address for events of your key's jobs, batches and responses.

    Its signing secret stands in the answer, and is not shown again.
    """
    shared = context.of(request)
    asked = validated(EndpointRequest, (await read_json(request))[1])
    owner = _owner(request, shared, asked.key)
    most = shared.settings.webhooks.per_key
    if len(await endpoints.all_of(shared.redis, owner)) >= most:
        raise Refusal(
            "invalid_value",
            f"this key has {most} endpoints, as many as the setting webhooks.per_key allows",
            "url",
        )
    url, now_ms = allowed(asked.url, "url", shared.settings), _now_ms()
    endpoint = Endpoint(
        id=endpoints.new_endpoint_id(),
        owner=owner,
        name=asked.name or origin_of(url),
        url=url,
        events=EVENTS if asked.event_types is None else _events(asked.event_types),
        secret=endpoints.new_secret(),
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    await endpoints.keep(shared.redis, endpoint)
    return as_json(_with_secret(endpoint))


@router.get(
    "/v1/webhook_endpoints",
    response_model=EndpointList,
    responses=errors(400, 403, 503),
    operation_id="list_webhook_endpoints",
)
async def index(
    request: Request,
    after: Annotated[str | None, Query(description="The `last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Endpoints on a page.")] = 20,
    key: KeyName = None,
) -> Response:
    """Your endpoints, the oldest first."""
    shared = context.of(request)
    found = await endpoints.all_of(shared.redis, _owner(request, shared, key))
    ids = [endpoint.id for endpoint in found]
    if after is not None and after not in ids:
        raise Refusal("invalid_value", "'after' is not the id of one of these endpoints", "after")
    begin = 0 if after is None else ids.index(after) + 1
    some = found[begin : begin + limit]
    gone = await endpoints.gone(shared.redis, [endpoint.id for endpoint in some])
    told = [_out(endpoint, endpoint.id in gone) for endpoint in some]
    return as_json(
        EndpointList(
            data=told,
            first_id=told[0].id if told else None,
            last_id=told[-1].id if told else None,
            has_more=begin + limit < len(found),
        )
    )


@router.get(
    "/v1/webhook_endpoints/{endpoint_id}",
    response_model=EndpointOut,
    responses=errors(403, 404, 503),
    operation_id="show_webhook_endpoint",
)
async def show(request: Request, endpoint_id: str, key: KeyName = None) -> Response:
    """One endpoint, without its secret."""
    shared = context.of(request)
    return as_json(await _shown(shared, await _found(request, shared, endpoint_id, key)))


@router.post(
    "/v1/webhook_endpoints/{endpoint_id}",
    response_model=EndpointOut,
    responses=errors(400, 403, 404, 415, 503),
    openapi_extra=body_schema(EndpointChange),
    operation_id="update_webhook_endpoint",
)
async def change(request: Request, endpoint_id: str, key: KeyName = None) -> Response:
    """Change an endpoint's address, name or events; one that was gone is told again."""
    shared = context.of(request)
    asked = validated(EndpointChange, (await read_json(request))[1])
    known = await _found(request, shared, endpoint_id, key)
    changed = replace(
        known,
        name=asked.name or known.name,
        url=known.url if asked.url is None else allowed(asked.url, "url", shared.settings),
        events=known.events if asked.event_types is None else _events(asked.event_types),
        updated_at_ms=_now_ms(),
    )
    await endpoints.keep(shared.redis, changed)
    return as_json(await _shown(shared, changed))


@router.delete(
    "/v1/webhook_endpoints/{endpoint_id}",
    response_model=EndpointDeleted,
    responses=errors(403, 404, 503),
    operation_id="delete_webhook_endpoint",
)
async def delete(request: Request, endpoint_id: str, key: KeyName = None) -> Response:
    """Forget an endpoint and its secret. What is on its way there is not sent any more."""
    shared = context.of(request)
    endpoint = await _found(request, shared, endpoint_id, key)
    await endpoints.remove(shared.redis, endpoint)
    return as_json(EndpointDeleted(id=endpoint.id))


@router.post(
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    response_model=EndpointWithSecret,
    responses=errors(400, 403, 404, 415, 503),
    openapi_extra=body_schema(RotateRequest),
    operation_id="rotate_webhook_secret",
)
async def rotate(request: Request, endpoint_id: str, key: KeyName = None) -> Response:
    """Give an endpoint a new secret, which stands in the answer."""
    shared = context.of(request)
    asked = validated(RotateRequest, (await read_json(request))[1])
    known = await _found(request, shared, endpoint_id, key)
    now_ms = _now_ms()
    stays = asked.keep_old_secret_active_for_24_hours
    renewed = replace(
        known,
        secret=endpoints.new_secret(),
        old_secret=known.secret if stays else None,
        old_until_ms=now_ms + _OLD_SECRET_MS if stays else 0,
        updated_at_ms=now_ms,
    )
    await endpoints.keep(shared.redis, renewed)
    return as_json(_with_secret(renewed))


@router.post(
    "/v1/webhook_endpoints/{endpoint_id}/test",
    response_model=TrialOut,
    responses=errors(400, 403, 404, 415, 502, 503),
    openapi_extra=body_schema(TrialRequest),
    operation_id="test_webhook_endpoint",
)
async def trial(request: Request, endpoint_id: str, key: KeyName = None) -> Response:
    """Send a signed sample at once, and tell what the receiver answered. It is not tried again."""
    shared = context.of(request)
    asked = validated(TrialRequest, (await read_json(request))[1])
    kind = checked_events([asked.event_type], "event_type", EVENTS)[0]
    endpoint = await _found(request, shared, endpoint_id, key)
    event = "evt_test_" + secrets.token_hex(12)
    answer = await shared.courier.send(
        event, _sample(event, kind), endpoint.url, endpoint.secrets_at(_now_ms())
    )
    if isinstance(answer, Unreached):
        raise Refusal("webhook_unreached", f"the endpoint could not be told: {answer}")
    return as_json(TrialOut(webhook_endpoint_id=endpoint.id, event_type=kind, status_code=answer.status))


@router.get(
    "/v1/webhook_secret",
    response_model=SecretOut,
    responses=errors(403, 503),
    operation_id="show_webhook_secret",
)
async def secret(request: Request, key: KeyName = None) -> Response:
    """The secret with which everything is signed that goes to an address a job of yours named (`webhook`)."""
    shared = context.of(request)
    return as_json(SecretOut(secret=await endpoints.owner_secret(shared.redis, _owner(request, shared, key))))


@router.post(
    "/v1/webhook_secret/rotate",
    response_model=SecretOut,
    responses=errors(403, 503),
    operation_id="rotate_job_webhook_secret",
)
async def renew(request: Request, key: KeyName = None) -> Response:
    """A new one; the old one signs nothing from now on."""
    shared = context.of(request)
    made = await endpoints.renew_owner_secret(shared.redis, _owner(request, shared, key))
    return as_json(SecretOut(secret=made))


def _owner(request: Request, shared: Context, key: str | None) -> str:
    """Whose endpoints are meant. Raises Refusal for somebody else's, unless an ``admin`` asks."""
    if key is None:
        return auth.owner(request)
    if not auth.is_admin(request):
        raise Refusal(
            "permission_denied", "the endpoints of another key are for keys with the scope 'admin'", "key"
        )
    try:
        found = auth.owner_named(key, Keyring(shared.settings.data_dir))
    except KeyringError as error:
        raise Refusal("invalid_value", f"the keys cannot be read: {error}", "key") from None
    if found is None:
        raise Refusal("invalid_value", f"'key': {key[:60]!a} is not the name of just one key", "key")
    return found


async def _found(request: Request, shared: Context, endpoint_id: str, key: str | None) -> Endpoint:
    endpoint = await endpoints.find(shared.redis, _owner(request, shared, key), endpoint_id)
    if endpoint is None:
        raise Refusal("webhook_not_found", f"there is no webhook endpoint {endpoint_id[:60]!a} here")
    return endpoint


def _events(value: object) -> tuple[str, ...]:
    return checked_events(value, "event_types", EVENTS)


def _sample(event: str, kind: str) -> str:
    topic = kind.partition(".")[0]
    body = {
        "id": event,
        "object": "event",
        "created_at": int(time.time()),
        "type": kind,
        "data": {"id": f"{topic}_test"},
    }
    return json.dumps(body, separators=(",", ":"))


async def _shown(shared: Context, endpoint: Endpoint) -> EndpointOut:
    return _out(endpoint, bool(await endpoints.gone(shared.redis, [endpoint.id])))


def _out(endpoint: Endpoint, is_gone: bool) -> EndpointOut:
    return EndpointOut(
        id=endpoint.id,
        name=endpoint.name,
        url=endpoint.url,
        event_types=list(endpoint.events),
        created_at=endpoint.created_at_ms // 1000,
        updated_at=endpoint.updated_at_ms // 1000,
        signing_secret_hint=f"{endpoints.SECRET_PREFIX}…{endpoint.secret[-4:]}",
        disabled=is_gone,
    )


def _with_secret(endpoint: Endpoint) -> EndpointWithSecret:
    return EndpointWithSecret(**_out(endpoint, False).model_dump(), signing_secret=endpoint.secret)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
