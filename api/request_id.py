"""The outermost layer: every answer carries a request id and its time, and no exception gets past it."""

from __future__ import annotations

import logging
import re
import secrets
import time

from fastapi import Request
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem, Refusal, of_error
from tasks.errors import JobError

log = logging.getLogger("hearth.api")

_REQUEST_ID = "hearth.request_id"
_OPENAI_VERSION = b"2020-10-01"
"""The one that OpenAI's own answers name: there has been no other."""
_FIT = re.compile(rb"[\w.:-]{1,128}")


class Guard:
    """ASGI middleware: ``x-request-id``, ``openai-processing-ms`` and where OpenAI's dialect is spoken
    ``openai-version`` on every answer, errors as envelopes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        request_id = _request_id(scope)
        scope[_REQUEST_ID] = request_id
        status = 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                taken_ms = round((time.perf_counter() - began_s) * 1000)
                headers = list(message.get("headers", ()))
                headers.append((b"x-request-id", request_id.encode()))
                headers.append((b"openai-processing-ms", str(taken_ms).encode()))
                if scope["path"].startswith("/v1/"):
                    headers.append((b"openai-version", _OPENAI_VERSION))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        except Exception as error:
            problem = problem_of(error, request_id)
            if status:  # too late for an answer of our own: the server closes the connection
                raise
            await problem.response(scope["path"])(scope, receive, stamped)
        finally:
            log.debug("%s %s %s → %d", request_id, scope["method"], scope["path"], status)


def _request_id(scope: Scope) -> str:
    """The client's own, when it sent a decent one: then its logs and ours speak of the same thing."""
    sent: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return sent.decode() if _FIT.fullmatch(sent) and sent.isascii() else "req_" + secrets.token_hex(16)


def request_id(request: Request) -> str:
    found: str = request.scope[_REQUEST_ID]
    return found


def problem_of(error: Exception, request_id: str) -> Problem:
    """What a client is told about any exception. What nobody foresaw is logged whole and told as an id."""
    if isinstance(error, Refusal):
        return error.problem
    if isinstance(error, JobError):
        return of_error(error)
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OutOfMemoryError | ConnectionError):
        log.warning("%s: Redis did not answer: %s", request_id, error)
        return Problem("queue_unavailable", "the queue cannot be reached just now; try again in a moment")
    kind = "Redis refused a command" if isinstance(error, RedisError) else "unforeseen"
    log.error("%s: %s", request_id, kind, exc_info=error)
    return Problem("internal_error", f"something went wrong on our side; the log knows it as {request_id}")
