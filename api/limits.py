"""What a request body may be: its size, its encoding, its JSON, and how deep that goes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import OLLAMA, Problem, Refusal

MAX_DEPTH = 64
"""Objects and arrays within one another. A deep conversation has six."""
_DRAIN_BYTES = 64 * 1024 * 1024
"""So much of a refused body is read and dropped, so that the client sees our answer instead of a reset."""
_BODY_S = 60.0
"""A body must have arrived by then."""
_FORM_FILES, _FORM_FIELDS = 32, 100
PICTURE_PATHS = ("/v1/jobs", "/v1/images/", "/sdapi/v1/")
"""Where pictures may come with a request: these paths, and all below those that end in a slash."""
FILES_PATH = "/v1/files"
"""Where a file may be sent."""
_FORM_BYTES = 64 * 1024
_JSON_TYPE = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyCap:
    """ASGI middleware: answers 413 to bodies beyond ``limit_bytes``, announced or not.

    Where pictures may come with the request ``picture_limit_bytes`` counts instead, and where a file is sent
    ``file_limit_bytes``, with room for the form around it.
    """

    def __init__(
        self, app: ASGIApp, limit_bytes: int, picture_limit_bytes: int, file_limit_bytes: int
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._picture_limit_bytes = max(limit_bytes, picture_limit_bytes)
        self._file_limit_bytes = file_limit_bytes + _FORM_BYTES

    def _limit_of(self, path: str) -> int:
        if path == FILES_PATH:
            return self._file_limit_bytes
        return self._picture_limit_bytes if _may_hold_pictures(path) else self._limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        limit = self._limit_of(scope["path"])
        if announced.isdigit() and int(announced) > limit:
            if headers.get(b"expect", b"").lower() != b"100-continue":
                await _drain(receive)
            refusal = Problem(*_too_large(limit), headers={"connection": "close"})
            await refusal.response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)


def _may_hold_pictures(path: str) -> bool:
    return any(path == known or (known.endswith("/") and path.startswith(known)) for known in PICTURE_PATHS)


def _counted(receive: Receive, limit_bytes: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit_bytes:
                if message.get("more_body"):
                    await _drain(receive)
                raise Refusal(*_too_large(limit_bytes), connection="close")
        return message

    return counted


def _too_large(limit_bytes: int) -> tuple[str, str]:
    return "payload_too_large", f"the request body exceeds {limit_bytes} bytes"


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


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Around the reading of a body. Raises Refusal when it does not come, or not whole."""
    try:
        async with asyncio.timeout(_BODY_S):
            yield
    except TimeoutError:
        raise Refusal("request_timeout", f"the request body did not arrive within {_BODY_S:.0f} s") from None
    except ClientDisconnect:
        raise Refusal("request_timeout", "the connection was closed before the request body ended") from None


def is_form(request: Request) -> bool:
    """Whether the body is announced as a form with files."""
    return _media_type(request).startswith(b"multipart/form-data")


async def read_form(request: Request) -> list[tuple[str, str | bytes]]:
    """The fields of a form in their order: text, or the bytes of a file.

    Raises:
        Refusal: it cannot be taken apart, or holds more parts than any request of ours needs.
    """
    async with _in_time():
        try:
            form = await request.form(max_files=_FORM_FILES, max_fields=_FORM_FIELDS)
        except HTTPException as error:  # what Starlette makes of all that the parser refuses
            raise Refusal("invalid_form", f"the form cannot be read: {error.detail}") from None
        try:
            return [
                (name, value if isinstance(value, str) else await value.read())
                for name, value in form.multi_items()
            ]
        finally:
            await form.close()


def _media_type(request: Request) -> bytes:
    kind: bytes = dict(request.scope["headers"]).get(b"content-type", b"")
    return kind.lower()


async def read_json(request: Request) -> tuple[bytes, Any]:
    """The body as bytes and as JSON.

    Raises:
        Refusal: not announced as JSON, not UTF-8, not JSON, too deep, or text that is not Unicode.
    """
    # Ollama never looks at the type, and litellm and everybody's curl count on it. What web pages of others
    # could send that way has been kept out by ``Visitors``.
    is_ollama = request.url.path.startswith(OLLAMA)
    if not is_ollama and not _JSON_TYPE.match(_media_type(request)):
        raise Refusal(
            "unsupported_media_type", "send the body as JSON, with 'Content-Type: application/json'"
        )
    async with _in_time():
        body = await request.body()
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
