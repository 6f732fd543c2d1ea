"""The way to Redis: one address in the settings, in the forms our clients and Celery want."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from config.settings import Settings, SettingsError

AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a Redis that does not answer looks like."""

SOCKET_TIMEOUT_S = 5.0
"""A command that has had no answer for this long is given up. Longer than any blocking read of ours."""

POOL_SIZE = 32
"""Connections of one event loop: a command takes a fraction of a millisecond, one reads all journals."""

_OPTIONS: dict[str, Any] = {
    "decode_responses": False,
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": 2.0,
    # RESP2 replies have one shape in every version of client and server.
    "protocol": 2,
    # Connections that idle through a restart of Redis are found dead at their next use.
    "health_check_interval": 30,
}


def address(settings: Settings) -> str:
    """The address of Redis.

    Raises:
        SettingsError: none is set.
    """
    if settings.redis_url is None:
        raise SettingsError(
            "redis_url is not set: start everything with `hearth up`, or set HEARTH_REDIS_URL to your Redis"
        )
    url = settings.redis_url.get_secret_value()
    if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
        raise SettingsError("redis_url must begin with redis://, rediss:// or unix://")
    return url


def connect(settings: Settings) -> redis.Redis:
    """A client with a pool of its own; connects at first use.

    A command is tried twice: every script of ours may be repeated without harm. Raises SettingsError.
    """
    retry = Retry(ConstantBackoff(0.02), 1)
    return redis.Redis.from_url(address(settings), retry=retry, **_OPTIONS)


class _Cancellable:
    """Mixed into redis-py's connections so that a cancelled task ends.

    redis-py 8.1 sends under ``asyncio.wait_for``, which in Python 3.11 loses a cancellation that comes while
    the bytes have just left (one in ten, measured November 2026), and which costs a task per command. Reading
    keeps its timeout; sending a few kilobytes does not block.
    """

    socket_timeout: float | None

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        timeout_s, self.socket_timeout = self.socket_timeout, None
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]  # it is a mixin
        finally:
            self.socket_timeout = timeout_s


def connect_async(settings: Settings) -> redis.asyncio.Redis:
    """Like ``connect``, for the event loop."""
    retry = AsyncRetry(ConstantBackoff(0.02), 1)
    # Two hundred requests at once take turns: the plain pool refuses the hundred-and-first.
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        address(settings), retry=retry, max_connections=POOL_SIZE, timeout=SOCKET_TIMEOUT_S, **_OPTIONS
    )
    kind = pool.connection_class
    pool.connection_class = type(f"Cancellable{kind.__name__}", (_Cancellable, kind), {})
    return redis.asyncio.Redis.from_pool(pool)


def replies(client: redis.Redis | redis.asyncio.Redis) -> Any:
    """The same client, without redis-py's annotations: they are unions over every way to decode a reply.

    Ours are always bytes.
    """
    return client


def broker_url(settings: Settings) -> str:
    """The same address in the form Celery's transport reads. Raises SettingsError."""
    url = address(settings)
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        database = query.get("db", "0")
        login = ""
        if parts.username or parts.password:
            login = f"{_quoted(parts.username)}:{_quoted(parts.password)}@"
        return f"redis+socket://{login}{parts.path}?virtual_host={database}"
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        # kombu verifies nobody unless told to; redis-py does by default.
        query["ssl_cert_reqs"] = "required"
        return parts._replace(query=urlencode(query)).geturl()
    return url


def _quoted(part: str | None) -> str:
    # urlsplit leaves percent escapes as they are; what is escaped already must not be escaped twice.
    return quote(part or "", safe="%")
