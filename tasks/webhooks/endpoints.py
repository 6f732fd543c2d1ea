"""The endpoints that owners have registered, and the secrets that what goes to them is signed with.

They lie in Redis beside the outbox, so that one script can tell who is to hear of an end. Whoever reads this
Redis reads prompts and answers as well: its directory is its owner's alone (mode 0700).
"""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio
from pydantic import TypeAdapter

from tasks import keys
from tasks.connection import replies

log = logging.getLogger("hearth.tasks.webhooks")

SECRET_PREFIX = "whsec_"  # noqa: S105  # what Standard Webhooks puts before every secret
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that hears of its owner's ``events``. Times are wall-clock milliseconds.

    ``old_secret`` signs as well until ``old_until_ms``: a receiver can be given the new one meanwhile.
    """

    id: str
    owner: str
    name: str
    url: str
    events: tuple[str, ...]
    secret: str
    created_at_ms: int
    updated_at_ms: int
    old_secret: str | None = None
    old_until_ms: int = 0

    def secrets_at(self, now_ms: float) -> list[str]:
        """What a delivery is signed with now, the newest first."""
        is_old_valid = self.old_secret is not None and now_ms < self.old_until_ms
        return [self.secret, self.old_secret] if is_old_valid and self.old_secret else [self.secret]


_ADAPTER: TypeAdapter[Endpoint] = TypeAdapter(Endpoint)


def new_secret() -> str:
    """256 random bits in the form that Standard Webhooks gives secrets."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def new_endpoint_id() -> str:
    return "we_" + secrets.token_hex(12)


async def keep(client: redis.asyncio.Redis, endpoint: Endpoint) -> None:
    """Add an endpoint, or put it in the place of what had its id; it is no longer gone then."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.hset(keys.endpoints(endpoint.owner), endpoint.id, _ADAPTER.dump_json(endpoint))
        pipe.hdel(keys.GONE_ENDPOINTS, endpoint.id)
        await pipe.execute()


async def remove(client: redis.asyncio.Redis, endpoint: Endpoint) -> None:
    """Forget an endpoint; what is on its way there is given up at its next attempt."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.hdel(keys.endpoints(endpoint.owner), endpoint.id)
        pipe.hdel(keys.GONE_ENDPOINTS, endpoint.id)
        await pipe.execute()


async def all_of(client: redis.asyncio.Redis, owner: str) -> list[Endpoint]:
    """An owner's endpoints, the oldest first. One that another version of Hearth wrote is left out."""
    kept = await replies(client).hgetall(keys.endpoints(owner))
    found = [endpoint for endpoint in map(_read, kept.values()) if endpoint is not None]
    return sorted(found, key=lambda endpoint: (endpoint.created_at_ms, endpoint.id))


async def find(client: redis.asyncio.Redis, owner: str, endpoint_id: str) -> Endpoint | None:
    raw = await replies(client).hget(keys.endpoints(owner), endpoint_id)
    return None if raw is None else _read(raw)


async def gone(client: redis.asyncio.Redis, ids: Sequence[str]) -> set[str]:
    """Those whose receiver has answered 410: nothing is sent to them until they are changed."""
    if not ids:
        return set()
    found = await replies(client).hmget(keys.GONE_ENDPOINTS, list(ids))
    return {endpoint_id for endpoint_id, at in zip(ids, found, strict=True) if at is not None}


async def owner_secret(client: redis.asyncio.Redis, owner: str) -> str:
    """What is signed with that goes to an address a job named itself; made at the first call."""
    await replies(client).hsetnx(keys.HOOK_SECRETS, owner, new_secret())
    secret: bytes = await replies(client).hget(keys.HOOK_SECRETS, owner)
    return secret.decode()


async def renew_owner_secret(client: redis.asyncio.Redis, owner: str) -> str:
    secret = new_secret()
    await replies(client).hset(keys.HOOK_SECRETS, owner, secret)
    return secret


def _read(raw: bytes) -> Endpoint | None:
    try:
        return _ADAPTER.validate_json(raw)
    except ValueError as error:
        log.warning("an endpoint cannot be read: %s", error)
        return None
