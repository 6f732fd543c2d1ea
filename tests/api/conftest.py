"""An API in this process, and one in a process of its own, both over the tests' Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from api.main import create_app
from config.settings import CHECKOUT, Settings, read_settings
from tests.api.support import StandIn, publish
from tests.conftest import RedisServer


@pytest.fixture
def house(store: redis.Redis) -> redis.Redis:
    """A Redis in which models and a card are published."""
    publish(store)
    return store


@pytest.fixture
def worker(settings: Settings, house: redis.Redis) -> Iterator[StandIn]:
    stand_in = StandIn(settings)
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
async def client(settings: Settings, house: redis.Redis) -> AsyncIterator[httpx.AsyncClient]:
    """The application in this process. Streams arrive whole: this transport waits for their end."""
    async with client_of(settings) as made:
        yield made


def client_of(settings: Settings) -> ClientOf:
    return ClientOf(settings)


class ClientOf:
    """``async with``: an application with these settings and a client of it."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)

    async def __aenter__(self) -> httpx.AsyncClient:
        self._lifespan = self.app.router.lifespan_context(self.app)
        await self._lifespan.__aenter__()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self._lifespan.__aexit__(None, None, None)


@dataclass
class Served:
    """A real ``python -m api``."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture(scope="session")
def server(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all: a process takes a while to start, and it is to bear a Redis that is emptied under it."""
    running = serve(read_settings(redis_url=redis_server.url, data_dir=tmp_path_factory.mktemp("api")))
    yield running
    assert running.terminate() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def served(server: Served, house: redis.Redis) -> Served:
    return server


@pytest.fixture
def bulk_worker(server: Served, settings: Settings, served: Served) -> Iterator[StandIn]:
    """A worker beside the server, with its data directory."""
    stand_in = StandIn(settings.model_copy(update={"data_dir": server.log.parent}))
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def mortal(settings: Settings, house: redis.Redis) -> Iterator[Served]:
    """One that a test may end."""
    running = serve(settings)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def serve(settings: Settings, **more: str) -> Served:
    """Start the server on a free port and wait until it answers."""
    assert settings.redis_url is not None
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.data_dir / "api.log"
    environment = {
        **os.environ,
        "HEARTH_REDIS_URL": settings.redis_url.get_secret_value(),
        "HEARTH_DATA_DIR": str(settings.data_dir),
        "HEARTH_PORT": "0",
        **more,
    }
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], cwd=CHECKOUT, env=environment, stderr=stderr, stdout=stderr
        )
    port_file = settings.data_dir / "api.port"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if port_file.exists():
            url = f"http://127.0.0.1:{port_file.read_text().strip()}"
            try:
                httpx.get(f"{url}/health", timeout=2)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            return Served(url, process, log)
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()[-2000:]}")
