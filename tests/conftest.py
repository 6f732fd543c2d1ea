"""What tests of any room may ask for: a Redis of their own, and settings that point to it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from config.settings import Settings, read_settings
from tasks.connection import connect, connect_async

# Slow is what a small or busy machine is, and no fault of what is tested.
hypothesis_settings.register_profile(
    "busy", parent=hypothesis_settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("busy")

INSTALL = "these tests need redis-server: sudo apt-get install --no-install-recommends redis-server"


class RedisServer:
    """A private redis-server on a unix socket. It is killed and started by its process id."""

    def __init__(self, directory: Path, *options: str) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            pytest.fail(INSTALL)
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._command = [binary, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        self._command += ["--dir", str(directory), "--save", "", "--maxmemory-policy", "noeviction"]
        self._command += ["--logfile", str(directory / "redis.log"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with redis.Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                    return
            except redis.ConnectionError:
                time.sleep(0.005)
        pytest.fail(f"redis-server did not answer: {(self.directory / 'redis.log').read_text()[-2000:]}")

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: what was not yet written to the append-only file is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run, without persistence."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def axcl_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libaxcl_rt.so that stands in for the vendor's; see tests/axclsim.py."""
    from tests.axclsim import built

    return built(tmp_path_factory.mktemp("axcl"))


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    """Settings with that Redis and a data directory of the test's own."""
    return read_settings(redis_url=redis_server.url, data_dir=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    client = connect(settings)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
async def astore(settings: Settings, store: redis.Redis) -> AsyncIterator[redis.asyncio.Redis]:
    """The same empty Redis, for the event loop."""
    client = connect_async(settings)
    yield client
    await client.aclose()
