"""A house whose webhooks may go to loopback, with a Redis that no other server's courier looks into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, read_settings
from tests.api.webhooks.receiver import Receiver
from tests.conftest import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "yes")
    yield server
    server.kill()


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return read_settings(
        redis_url=redis_server.url,
        data_dir=tmp_path / "data",
        webhooks={"private_networks": ["127.0.0.0/8"], "retry_first_s": 0.02, "timeout_s": 2.0},
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening
