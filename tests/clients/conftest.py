"""One server for all client libraries: the real API, a real Redis, and a worker that says what it is told.

What a client sends is what matters here, and what it makes of the answers; so the worker is the stand-in of
``tests/api``, which needs no model. Nobody may reach further than this machine.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from config.settings import read_settings
from tasks import jobs, keys
from tasks.connection import connect
from tests.api.conftest import serve
from tests.api.support import StandIn, publish
from tests.conftest import RedisServer

MODEL = "tiny-chat"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "", None})


@dataclass(frozen=True)
class Home:
    """A running server, the worker behind it, and a look into its Redis."""

    url: str
    worker: StandIn
    store: redis.Redis

    def last_chat(self) -> jobs.ChatJob:
        """The job that the worker took last."""
        return self.chat(self.worker.seen[-1])

    def chat(self, job_id: str) -> jobs.ChatJob:
        job = jobs.decode(self.store.hget(keys.job(job_id), "job") or b"")
        assert isinstance(job, jobs.ChatJob)
        return job


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("clients")
    server = RedisServer(folder)
    settings = read_settings(redis_url=server.url, data_dir=folder / "data")
    store = connect(settings)
    publish(store)
    worker = StandIn(settings)
    worker.start()
    with _still_there(store):
        api = serve(settings)
        yield Home(api.url, worker, store)
        assert api.terminate() == 0
    worker.stop()
    assert "Traceback" not in Path(api.log).read_text()
    store.close()
    server.kill()


class _still_there:  # noqa: N801
    """The stand-in for the monitor's rounds: what has a date is published again in time."""

    def __init__(self, store: redis.Redis) -> None:
        self._store, self._done = store, threading.Event()
        self._thread = threading.Thread(target=self._rounds, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _rounds(self) -> None:
        while not self._done.wait(5):
            publish(self._store)


@pytest.fixture(autouse=True)
def nobody_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a host beyond this machine fails: some clients like to tell of themselves."""
    plain_connect, plain_lookup = socket.socket.connect, socket.getaddrinfo

    def connected(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in _LOOPBACK:
            raise AssertionError(f"a client wanted to reach {address}")
        plain_connect(self, address)

    def looked_up(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in _LOOPBACK:
            raise AssertionError(f"a client asked where {host} is")
        return plain_lookup(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
