"""One attempt: where it goes, how long it may take, how much of an answer it reads."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from api.webhooks.wire import Answer, Unreached, Wire
from config.networks import Address
from config.settings import Settings
from tests.api.webhooks.receiver import Receiver

TLS = Path(__file__).parent / "tls"
"""A certificate for hooks.test and the authority that signed it, made for these tests."""


def named(settings: Settings, **webhooks: Any) -> Settings:
    told = settings.webhooks.model_copy(update={"allowed_hosts": ("*",), "timeout_s": 1.0, **webhooks})
    return settings.model_copy(update={"webhooks": told})


@asynccontextmanager
async def wire(
    settings: Settings, *leads_to: Sequence[str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Wire]:
    """A way out on which names lead there: the first time, the second time, …"""
    answers = iter(leads_to)

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(each) for each in next(answers)]

    made = Wire(settings, resolve=resolve, tls=tls)
    yield made
    await made.aclose()
    assert next(answers, None) is None, "a name was not looked up as often as it was asked for"


async def post(way: Wire, url: str) -> Answer:
    return await way.post(url, b"{}", {"webhook-id": "evt_1"})


@pytest.fixture
def named_receiver() -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "receiver.pem")
    with Receiver(context) as listening:
        yield listening


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "authority.pem"))


async def test_a_name_is_connected_to_by_its_address_and_greeted_by_its_name(
    settings: Settings, named_receiver: Receiver
) -> None:
    port = named_receiver.port
    allowed = named(settings, allowed_hosts=(f"hooks.test:{port}", f"other.test:{port}"))
    async with wire(allowed, ["127.0.0.1"], ["127.0.0.1"], tls=trusting()) as way:
        assert await post(way, f"https://hooks.test:{port}/x?y=1") == Answer(204)
        heard = named_receiver.heard[0]
        assert (heard.path, heard.headers["host"]) == ("/x?y=1", f"hooks.test:{port}")
        assert heard.headers["user-agent"].startswith("Hearth/")
        with pytest.raises(Unreached, match="certificate"):
            await post(way, f"https://other.test:{port}/")
    assert len(named_receiver.heard) == 1


async def test_an_authority_nobody_knows_is_not_trusted(settings: Settings, named_receiver: Receiver) -> None:
    port = named_receiver.port
    async with wire(named(settings, allowed_hosts=(f"hooks.test:{port}",)), ["127.0.0.1"]) as way:
        with pytest.raises(Unreached, match="certificate"):
            await post(way, f"https://hooks.test:{port}/")
    assert named_receiver.heard == []


async def test_a_name_that_is_bound_anew_is_not_followed_inside(
    settings: Settings, receiver: Receiver
) -> None:
    """It led to where it may; then it leads to this machine, to the metadata of a cloud, to both."""
    port = receiver.port
    rules = named(
        settings, allowed_hosts=(f"rebound.test:{port}",), private_networks=settings.webhooks.private_networks
    )
    inside = (["169.254.169.254"], ["10.0.0.1", "::1"], ["::ffff:169.254.169.254"], ["fd00:ec2::254"])
    async with wire(rules, ["10.0.0.1", "127.0.0.1"], *inside) as way:
        assert await post(way, f"http://rebound.test:{port}/") == Answer(204)
        for _ in inside:
            with pytest.raises(Unreached, match=r"webhooks\.private_networks"):
                await post(way, f"http://rebound.test:{port}/")
    assert len(receiver.heard) == 1


async def test_loopback_is_refused_where_only_names_are_allowed(
    settings: Settings, receiver: Receiver
) -> None:
    rules = named(settings, allowed_hosts=(f"hooks.test:{receiver.port}",), private_networks=())
    async with wire(rules, ["127.0.0.1"]) as way:
        with pytest.raises(Unreached, match=r"webhooks\.private_networks"):
            await post(way, f"https://hooks.test:{receiver.port}/")
        with pytest.raises(Unreached, match="https://"):
            await post(way, f"http://hooks.test:{receiver.port}/")
    assert receiver.heard == []


async def test_the_next_address_is_tried_when_one_does_not_answer(
    settings: Settings, receiver: Receiver
) -> None:
    rules = named(settings, allowed_hosts=(f"two.test:{receiver.port}",))
    async with wire(rules, ["127.0.0.9", "127.0.0.1"]) as way:
        assert await post(way, f"http://two.test:{receiver.port}/") == Answer(204)


async def test_a_proxy_of_the_environment_is_not_used(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with wire(named(settings), ["127.0.0.1"]) as way:
        assert (await post(way, receiver.url)).status == 204


async def test_a_redirect_is_an_answer(settings: Settings, receiver: Receiver) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("location", f"http://127.0.0.1:{receiver.port}/elsewhere")
        handler.send_header("content-length", "0")
        handler.end_headers()

    receiver.answers.append(elsewhere)
    async with wire(named(settings), ["127.0.0.1"]) as way:
        assert (await post(way, receiver.url)).status == 307
    assert [heard.path for heard in receiver.heard] == ["/hook"]


async def test_a_receiver_that_says_nothing_is_given_up_in_time(
    settings: Settings, receiver: Receiver
) -> None:
    done = threading.Event()
    receiver.answers.append(_silent(done))
    async with wire(named(settings, timeout_s=0.2), ["127.0.0.1"]) as way:
        began = time.monotonic()
        with pytest.raises(Unreached, match="within"):
            await post(way, receiver.url)
    assert time.monotonic() - began < 2
    done.set()


def _silent(done: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        done.wait(10)

    return silent


def _drip(piece: bytes, done: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        while not done.wait(0.02):
            handler.wfile.write(piece)
            handler.wfile.flush()

    return drip


async def test_a_receiver_that_never_ends_its_headers_is_given_up_in_time(
    settings: Settings, receiver: Receiver
) -> None:
    """Each read has an answer: only the whole has to be bounded."""
    done = threading.Event()
    receiver.answers.append(_drip(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 8, done))
    async with wire(named(settings, timeout_s=0.3), ["127.0.0.1"]) as way:
        await way._opened()
        began = time.monotonic()
        with pytest.raises(Unreached):
            await post(way, receiver.url)
    assert time.monotonic() - began < 5
    done.set()


async def test_a_body_without_an_end_is_left_alone(settings: Settings, receiver: Receiver) -> None:
    sent, stopped = [0], threading.Event()

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent[0] < 200_000_000:
                handler.wfile.write(b"x" * 65536)
                sent[0] += 65536
        except OSError:
            pass
        stopped.set()

    receiver.answers.append(flood)
    async with wire(named(settings), ["127.0.0.1"]) as way:
        assert await post(way, receiver.url) == Answer(200)
    assert await asyncio.to_thread(stopped.wait, 5)
    assert sent[0] < 50_000_000, "more than sockets hold was read"


async def test_an_answer_counts_although_its_body_never_comes(settings: Settings, receiver: Receiver) -> None:
    done = threading.Event()

    def promise(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "10")
        handler.end_headers()
        handler.wfile.flush()
        done.wait(10)

    receiver.answers.append(promise)
    async with wire(named(settings, timeout_s=0.3), ["127.0.0.1"]) as way:
        assert await post(way, receiver.url) == Answer(200)
    done.set()


async def test_retry_after(settings: Settings, receiver: Receiver) -> None:
    told = {"7": 7.0, " 0 ": 0.0, "-3": None, "soon": None, "": None, "１": None, "9" * 40: 999999999.0}
    receiver.answers.extend(map(_busy, told))
    async with wire(named(settings), *[["127.0.0.1"]] * len(told)) as way:
        assert [(await post(way, receiver.url)).retry_after_s for _ in told] == list(told.values())


async def test_retry_after_a_date(settings: Settings, receiver: Receiver) -> None:
    receiver.answers.append(_busy(email.utils.formatdate(time.time() + 100, usegmt=True)))
    async with wire(named(settings), ["127.0.0.1"]) as way:
        assert (await post(way, receiver.url)).retry_after_s == pytest.approx(100, abs=5)


def _busy(retry_after: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def busy(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.wfile.write(b"")
        handler._headers_buffer.append(b"retry-after: " + retry_after.encode() + b"\r\n")  # type: ignore[attr-defined]
        handler.send_header("content-length", "0")
        handler.end_headers()

    return busy


async def test_nobody_listens(settings: Settings, receiver: Receiver) -> None:
    async with wire(named(settings), ["127.0.0.1"]) as way:
        with pytest.raises(Unreached, match="no connection"):
            await post(way, "http://127.0.0.1:1/secret")


async def test_a_name_that_leads_nowhere(settings: Settings) -> None:
    async with wire(named(settings), []) as way:
        with pytest.raises(Unreached):
            await post(way, "https://nowhere.test/")
    async with wire(named(settings)) as way:
        way._resolve = _fails
        with pytest.raises(Unreached, match="looked up"):
            await post(way, "https://nowhere.test/")


async def _fails(host: str, port: int) -> list[Address]:
    raise socket.gaierror(-2, "Name or service not known")
