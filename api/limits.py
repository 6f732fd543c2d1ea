"""What a request body may be: its size, its encoding, its JSON, and how deep that goes."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem, Refusal

MAX_DEPTH = 64
"""Objects and arrays within one another. A deep conversation has six."""
_DRAIN_BYTES = 64 * 1024 * 1024
"""So much of a refused body is read and dropped, so that the client sees our answer instead of a reset."""
_BODY_S = 60.0
"""A body must have arrived by then."""
_JSON_TYPE = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyCap:
    """ASGI middleware: answers 413 to bodies beyond ``limit_bytes``, announced or not."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit_bytes:
            if headers.get(b"expect", b"").lower() != b"100-continue":
                await _drain(receive)
            await self._refuse(scope["path"])(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit_bytes:
                    if message.get("more_body"):
                        await _drain(receive)
                    raise Refusal(*self._fault(), connection="close")
            return message

        return counted

    def _fault(self) -> tuple[str, str]:
        return "payload_too_large", f"the request body exceeds {self._limit_bytes} bytes"

    def _refuse(self, path: str) -> ASGIApp:
        return Problem(*self._fault(), headers={"connection": "close"}).response(path)


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_BODY_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


async def read_json(request: Request) -> tuple[bytes, Any]:
    """The body as bytes and as JSON.

    Raises:
        Refusal: not announced as JSON, not UTF-8, not JSON, too deep, or text that is not Unicode.
    """
    if not _JSON_TYPE.match(dict(request.scope["headers"]).get(b"content-type", b"")):
        raise Refusal(
            "unsupported_media_type", "send the body as JSON, with 'Content-Type: application/json'"
        )
    try:
        async with asyncio.timeout(_BODY_S):
            body = await request.body()
    except TimeoutError:
        raise Refusal("request_timeout", f"the request body did not arrive within {_BODY_S:.0f} s") from None
    except ClientDisconnect:
        raise Refusal("request_timeout", "the connection was closed before the request body ended") from None
    return body, parse_json(body)


def parse_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no lone surrogates, at most ``MAX_DEPTH`` levels. Raises Refusal."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Refusal("invalid_json", f"the body is not valid UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal("invalid_json", f"the body is not valid JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # Python refuses to convert integers of more than 4300 digits
        raise Refusal("invalid_json", "the body holds a number that is too long") from None
    _check_depth(value)
    if b"\\u" in body:  # a surrogate without its partner can only come escaped
        found = _find_surrogate(value, "")
        if found is not None:
            raise Refusal(
                "invalid_value", "text holds half of a surrogate pair: not valid Unicode", found or None
            )
    return value


def _no_constant(name: str) -> Any:
    raise Refusal("invalid_json", f"the body is not valid JSON: {name} is not a number JSON knows")


def _too_deep() -> Refusal:
    return Refusal("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    if level:
        raise _too_deep()


def _find_surrogate(value: Any, path: str) -> str | None:
    """Where a string, or a key, holds half a surrogate pair; None when none does."""
    if isinstance(value, str):
        return path if _SURROGATE.search(value) else None
    if isinstance(value, list):
        found = (_find_surrogate(item, f"{path}[{index}]") for index, item in enumerate(value))
    elif isinstance(value, dict):
        if any(_SURROGATE.search(key) for key in value):
            return path
        found = (_find_surrogate(item, f"{path}.{key}" if path else key) for key, item in value.items())
    else:
        return None
    return next((place for place in found if place is not None), None)
