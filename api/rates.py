"""How much one key may ask for within a minute: requests that make jobs, and the tokens these took.

Requests are counted as they come, with the ``limits`` library in Redis, so that several processes count as
one. Tokens are known when a job has ended (``tasks/spending.py``): too many delay the next request, none is
cut short.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from redis.asyncio import Redis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import auth
from api.errors import Problem
from config.settings import Settings
from tasks import keys
from tasks.spending import WINDOW_S, below_in_s, spending, total

MAKING_JOBS = re.compile(
    r"/v1/(batches|(chat/)?completions|embeddings|responses|images/(generations|edits)|jobs|jobs/batches/[^/]+/retry-failed)"
    r"|/api/(chat|generate|embed|embeddings)"
    r"|/sdapi/v1/(txt2img|img2img)"
)
"""Where a POST makes jobs. What looks, polls, cancels or pauses is not counted."""
_WITH_HEADERS = "/v1/"
"""Below this path answers say how much is left, in the headers that OpenAI's do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands with one of its limits. ``wait_s`` is 0 when it may go on; ``reset_s`` is when more
    will be left."""

    of: str
    limit: int
    left: int
    wait_s: float
    reset_s: float

    def headers(self) -> Iterable[tuple[str, str]]:
        yield f"x-ratelimit-limit-{self.of}", str(self.limit)
        yield f"x-ratelimit-remaining-{self.of}", str(self.left)
        yield f"x-ratelimit-reset-{self.of}", f"{self.reset_s:.3f}s"


class Windows:
    """The counters, in our own connections to Redis. Raises RedisError when it does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tokens(self, owner: str, limit: int) -> Standing:
        spent = await spending(self._redis, owner)
        left = max(0, limit - total(spent))
        reset_s = WINDOW_S - max((each.age_s for each in spent), default=WINDOW_S)
        return Standing("tokens", limit, left, below_in_s(spent, limit), reset_s)

    async def requests(self, owner: str, limit: int) -> Standing:
        """Counts one more, if it may be."""
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(limit)
        may = await self._window.hit(item, owner)
        reset_at_s, left = await self._window.get_window_stats(item, owner)
        reset_s = min(max(0.0, reset_at_s - time.time()), WINDOW_S)
        return Standing("requests", limit, left, 0.0 if may else reset_s, reset_s if left < limit else 0.0)

    @cached_property
    def _window(self):  # type: ignore[no-untyped-def]  # named below, where it is imported
        # 60 ms and 1 MB that a server without limits need not pay.
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import MovingWindowRateLimiter

        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=keys.WINDOWS,
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # handed on as it is
        )
        return MovingWindowRateLimiter(storage)


class Rates:
    """ASGI middleware: 429 where a key has asked for too much within a minute. Stands within ``Keys``."""

    def __init__(self, app: ASGIApp, settings: Settings, redis: Redis) -> None:
        self._app = app
        self._rates = settings.rates
        self._windows = Windows(redis)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not makes_jobs(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        standings = await self._standings(auth.caller_of(scope))
        headers = [pair for each in standings for pair in each.headers()]
        if not scope["path"].startswith(_WITH_HEADERS):
            headers = []
        over = max(standings, key=lambda each: each.wait_s, default=None)
        if over is not None and over.wait_s > 0:
            refusal = _too_much(over, dict(headers))
            await refusal.response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, _telling(send, headers) if headers else send)

    async def _standings(self, caller: auth.Caller) -> list[Standing]:
        """What is limited for this key, its own limits before those of the settings.

        A request that is refused for its tokens does not count as one.
        """
        per_minute = caller.per_minute or self._rates.requests_per_minute
        tokens_per_minute = caller.tokens_per_minute or self._rates.tokens_per_minute
        found = []
        if tokens_per_minute is not None:
            found.append(await self._windows.tokens(caller.owner, tokens_per_minute))
        if per_minute is not None and not any(each.wait_s for each in found):
            found.append(await self._windows.requests(caller.owner, per_minute))
        return found


def makes_jobs(method: str, path: str) -> bool:
    return method == "POST" and MAKING_JOBS.fullmatch(path) is not None


def _too_much(over: Standing, headers: dict[str, str]) -> Problem:
    wait_s = math.ceil(over.wait_s)
    told = f"this key may ask for {over.limit} {over.of} a minute, and has had them; try again in {wait_s} s"
    return Problem("rate_limit_exceeded", told, retry_after_s=wait_s, headers=headers)


def _telling(send: Send, headers: Iterable[tuple[str, str]]) -> Send:
    more = [(name.encode(), value.encode()) for name, value in headers]

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return telling
