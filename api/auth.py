"""Who asks: a key where one is demanded, and the owner that it stands for.

The key comes as ``Bearer``; where AUTOMATIC1111's dialect is spoken also as the password of ``Basic``,
because its clients know nothing else. A browser sends Basic credentials along unasked: elsewhere they do not
count.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

from fastapi import Request
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import WEB_UI, Problem
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
        key = token.strip() if scheme.lower() == b"bearer" else None
        if scheme.lower() == b"basic" and scope["path"].startswith(WEB_UI):
            key = _password(token)
        # Digests of one length: the time of the comparison tells nothing about the key.
        return key is not None and hmac.compare_digest(_digest(key), self._digest)


def _password(credentials: bytes) -> bytes | None:
    """What stands behind the user's name; any user is welcome. None when that cannot be read (RFC 7617)."""
    try:
        _, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None


def owner_of(key_digest: bytes) -> str:
    """The name under which the jobs of a key are kept; the key cannot be told from it."""
    return "key_" + sha256(b"hearth owner " + key_digest).hexdigest()[:24]


def owner(request: Request) -> str:
    name: str = request.scope[_OWNER]
    return name


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _unauthorized(path: str) -> ASGIApp:
    message, challenge = "this server wants its API key, as 'Authorization: Bearer …'", "Bearer"
    if path.startswith(WEB_UI):
        message += " or as the password of Basic authentication, with any user"
        challenge = 'Basic realm="hearth", Bearer'
    return Problem("invalid_api_key", message, headers={"WWW-Authenticate": challenge}).response(path)
