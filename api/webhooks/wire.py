"""One attempt at a webhook: a POST to an address that was looked up once, bounded in every direction."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

import certifi
import httpx

from api.webhooks.targets import Refused, Targets
from config.networks import Address
from config.settings import Settings
from config.version import VERSION

_DRAINED_BYTES = 16 * 1024
"""Of an answer's body so much is read, so that a receiver can end what it is saying; all of it is dropped."""
_ADDRESSES = 3
"""Of a name's addresses so many are tried."""

# It would log whole addresses, and paths of webhooks are often secrets.
logging.getLogger("httpx").setLevel(logging.WARNING)

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said. ``retry_after_s`` is None when it said nothing of the kind."""

    status: int
    retry_after_s: float | None = None


class Unreached(Exception):
    """Nobody answered, or nobody may be asked there; the message says why and holds no secrets."""


async def look_up(host: str, port: int) -> list[Address]:
    """All addresses of a name, by the machine's own resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(sockaddr[0]) for *_, sockaddr in found]


class Wire:
    """The way out. To be closed."""

    def __init__(
        self, settings: Settings, *, resolve: Resolve = look_up, tls: ssl.SSLContext | None = None
    ) -> None:
        self._targets = Targets(settings.webhooks)
        self._timeout_s = settings.webhooks.timeout_s
        self._resolve, self._tls = resolve, tls
        self._opening = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        """Opened with the first attempt, which most servers never make: it reads many authorities."""
        async with self._opening:
            if self._http is None:
                tls = self._tls if self._tls is not None else await asyncio.to_thread(_trusting)
                self._http = httpx.AsyncClient(
                    transport=_Pinned(self._targets, self._resolve, tls),
                    timeout=self._timeout_s,
                    follow_redirects=False,
                    trust_env=False,
                    headers={"user-agent": f"Hearth/{VERSION}", "accept-encoding": "identity"},
                )
            return self._http

    async def post(self, address: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send ``body`` once. Redirects are answers like others. Raises Unreached."""
        answer: Answer | None = None
        http = await self._opened()
        try:
            # The settings may have changed since the address was taken.
            url = self._targets.checked(address)
            async with (
                asyncio.timeout(self._timeout_s),
                http.stream("POST", url, content=body, headers=headers) as response,
            ):
                answer = Answer(response.status_code, _retry_after_s(response))
                await _drain(response)
        except Refused as error:
            raise Unreached(f"it {error}") from None
        except (TimeoutError, httpx.TimeoutException):
            if answer is None:
                raise Unreached(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            if answer is None:
                raise Unreached(_words(error)) from None
        assert answer is not None
        return answer


class _Pinned(httpx.AsyncBaseTransport):
    """Looks a name up, and connects to the very address that was found to be allowed.

    TLS and ``Host`` still speak of the name. No connection is kept: another name may have the same address.
    """

    def __init__(self, targets: Targets, resolve: Resolve, tls: ssl.SSLContext) -> None:
        self._targets = targets
        self._resolve = resolve
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        found = await self._resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        error: Exception = OSError("the name has no address")
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        for address in self._targets.reachable(url.scheme, found)[:_ADDRESSES]:
            request.url = url.copy_with(host=str(address))
            try:
                return await self._inner.handle_async_request(request)
            except httpx.ConnectError as failed:
                error = failed
        raise error


def _trusting() -> ssl.SSLContext:
    """Trusts whom the machine trusts, and the usual authorities where it knows none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


async def _drain(response: httpx.Response) -> None:
    read = 0
    with suppress(httpx.HTTPError):
        async for piece in response.aiter_raw():
            read += len(piece)
            if read >= _DRAINED_BYTES:
                return


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3); None when there is none that can be read."""
    told = response.headers.get("retry-after", "").strip()
    if told.isascii() and told.isdecimal():
        return float(told[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name cannot be looked up"
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {error}"[:200]
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return "the connection broke off before there was an answer"
    return f"no answer: {type(error).__name__}"
