"""A Redis that no other server uses: one that other tests share has a clerk, too, and other files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, read_settings
from tests.conftest import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return read_settings(redis_url=redis_server.url, data_dir=tmp_path / "data")
