"""Who asks: a key where one is demanded, and the owner that it stands for.

The key comes as ``Bearer``; where AUTOMATIC1111's dialect is spoken also as the password of ``Basic``,
because its clients know nothing else. A browser sends Basic credentials along unasked: elsewhere they do not
count.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from dataclasses import dataclass
from hashlib import sha256

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import WEB_UI, Problem
from config.groups import QueueSettings
from config.keyring import Keyring, KeyringError
from config.keyring import Scope as KeyScope
from config.settings import Settings, is_loopback
from tasks.jobs import ANONYMOUS

log = logging.getLogger("hearth.api")

OPEN_PATHS = frozenset({"/", "/health", "/v1/health", "/ready", "/docs", "/openapi.json"})
"""Answered without a key: they tell nothing about anybody's jobs, and probes and browsers carry none."""
ADMIN_ROUTES = frozenset(
    {
        ("PATCH", "/v1/device/thresholds"),
        ("DELETE", "/api/delete"),
        ("POST", "/v1/queue/pause"),
        ("POST", "/v1/queue/resume"),
        ("POST", "/v1/models/load"),
        ("POST", "/v1/models/unload"),
        ("POST", "/sdapi/v1/unload-checkpoint"),
        ("POST", "/sdapi/v1/reload-checkpoint"),
    }
)
"""What changes the house for everybody: only for keys with the scope ``admin``."""
_CALLER = "hearth.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. The limits are the key's own; None leaves them to the settings."""

    owner: str
    is_admin: bool
    per_minute: int | None = None
    tokens_per_minute: int | None = None


class Keys:
    """ASGI middleware: 401 without a key that is known, 403 where that key is not enough.

    Known are the key of the settings, which may do everything, and those of the keyring. Where there is
    neither, and only this machine can ask, every token is welcome. A keyring from which the last key was
    revoked welcomes nobody; beyond loopback one that was removed does neither.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keyring: Keyring) -> None:
        self._app = app
        key = settings.api_key
        self._digest = None if key is None else _digest(key.get_secret_value().encode())
        self._needs_key = key is not None or not is_loopback(settings.host)
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            caller = self._caller(scope)
            if caller is None:
                await _unauthorized(scope["path"])(scope, receive, send)
                return
            if not caller.is_admin and (scope["method"], scope["path"]) in ADMIN_ROUTES:
                await _forbidden(scope["path"])(scope, receive, send)
                return
            scope[_CALLER] = caller
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        """Who asks; None when nobody may who does not show a key."""
        try:
            self._keyring.refresh()
            is_open = not self._needs_key and not self._keyring.exists
        except KeyringError as error:
            log.error("keys of the keyring open nothing: %s", error)
            is_open = False
        if is_open:
            return Caller(ANONYMOUS, is_admin=True)
        key = _key_of(scope)
        known = None if key is None else self._known(key)
        if known is None and scope["path"] in OPEN_PATHS:
            return Caller(ANONYMOUS, is_admin=False)
        return known

    def _known(self, key: bytes) -> Caller | None:
        digest = _digest(key)
        # Digests of one length: the time of the comparison tells nothing about the key.
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            return Caller(owner_of(digest), is_admin=True)
        found = self._keyring.find(key)
        if found is None:
            return None
        is_admin = found.scope is KeyScope.ADMIN
        return Caller(owner_of(digest), is_admin, found.per_minute, found.tokens_per_minute)


def _key_of(scope: Scope) -> bytes | None:
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"basic" and scope["path"].startswith(WEB_UI):
        return _password(token)
    return token.strip() if scheme.lower() == b"bearer" else None


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
    return caller_of(request.scope).owner


def caller_of(scope: Scope) -> Caller:
    caller: Caller = scope[_CALLER]
    return caller


def may_go_ahead(request: Request, settings: QueueSettings) -> bool:
    """Whether the jobs of who asks may be of the class ``priority``."""
    if settings.priority_for == "admin":
        return caller_of(request.scope).is_admin
    return settings.priority_for == "all"


def is_admin(request: Request) -> bool:
    """Whether who asks may change the house for everybody."""
    return caller_of(request.scope).is_admin


def owner_named(name: str, keyring: Keyring) -> str | None:
    """The owner that a key of the keyring stands for, by its id or name; None unless there is just one.

    Raises KeyringError.
    """
    keyring.refresh()
    found = [key for key in keyring if name in (key.id, key.name)]
    return owner_of(bytes.fromhex(found[0].sha256)) if len(found) == 1 else None


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _unauthorized(path: str) -> ASGIApp:
    message, challenge = "this server wants its API key, as 'Authorization: Bearer …'", "Bearer"
    if path.startswith(WEB_UI):
        message += " or as the password of Basic authentication, with any user"
        challenge = 'Basic realm="hearth", Bearer'
    return Problem("invalid_api_key", message, headers={"WWW-Authenticate": challenge}).response(path)


def _forbidden(path: str) -> ASGIApp:
    message = "this key asks for answers only; what changes the server needs one with the scope 'admin'"
    return Problem("permission_denied", message).response(path)
