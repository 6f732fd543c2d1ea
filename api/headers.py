"""Headers that every answer bears, whatever made it: what a browser must not do with it."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DEFAULTS = {
    # Believe the type: no answer of ours becomes a page or a script because of how it begins.
    b"x-content-type-options": b"nosniff",
    # Addresses hold ids of jobs.
    b"referrer-policy": b"no-referrer",
    # No page of others shows our answers, not even as pictures or in a frame.
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    # An answer opened in a browser loads and runs nothing; pages of ours say what they need.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    # Answers are their asker's alone; those that may be kept say so.
    b"cache-control": b"no-store",
}
EXPOSED = (
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "openai-processing-ms",
    "openai-version",
    "x-hearth-warnings",
    "x-job-id",
    "x-job-ids",
    "x-queue-position",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
)
"""What the script of a page that may ask (``cors_origins``) may read of our headers."""


class Headers:
    """ASGI middleware: adds each header that the answer does not bear already, streams included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(_with_defaults(message.get("headers", ())))
            await send(message)

        await self._app(scope, receive, dressed if scope["type"] == "http" else send)


def _with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    missing = dict(_DEFAULTS)
    for name, value in headers:
        missing.pop(name.lower(), None)
        yield name, value
    yield from missing.items()
