"""Who asks: a Bearer key where one is demanded, and the owner that a key stands for."""

from __future__ import annotations

import hmac
from hashlib import sha256

from fastapi import Request
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Problem
from tasks.jobs import ANONYMOUS

OPEN_PATHS = frozenset({"/health", "/v1/health", "/ready", "/docs", "/openapi.json"})
"""Answered without a key: they tell nothing about anybody's jobs, and probes and browsers carry none."""
_OWNER = "hearth.owner"


class Keys:
    """ASGI middleware: 401 without the right key; without a key in the settings every token is welcome."""

    def __init__(self, app: ASGIApp, api_key: SecretStr | None) -> None:
        self._app = app
        self._digest = None if api_key is None else _digest(api_key.get_secret_value().encode())
        self._owner = ANONYMOUS if self._digest is None else owner_of(self._digest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not self._may_pass(scope):
                await _unauthorized(scope["path"])(scope, receive, send)
                return
            scope[_OWNER] = self._owner
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if self._digest is None or scope["path"] in OPEN_PATHS:
            return True
        scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        # Digests of one length: the time of the comparison tells nothing about the key.
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._digest)


def owner_of(key_digest: bytes) -> str:
    """The name under which the jobs of a key are kept; the key cannot be told from it."""
    return "key_" + sha256(b"hearth owner " + key_digest).hexdigest()[:24]


def owner(request: Request) -> str:
    name: str = request.scope[_OWNER]
    return name


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _unauthorized(path: str) -> ASGIApp:
    message = "this server wants its API key, as 'Authorization: Bearer …'"
    return Problem("invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"}).response(path)
