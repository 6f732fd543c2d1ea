"""One server for all tests of the whole, with a quick pulse; each test leaves its card healthy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from bench.stack import Stack, running

MODEL = "hearth-chat"
Card = Callable[..., str]
QUICK = {
    "HEARTH_THERMAL__POLL_S": "0.5",
    "HEARTH_QUEUE__LEASE_S": "3",
    "HEARTH_QUEUE__READER_GRACE_S": "2",
}


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the server may pull packages from."""
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="session")
def server(catalogue: Path) -> Iterator[Stack]:
    """``hearth up`` on the virtual card: readings twice a second, leases of 3 s."""
    with running({**QUICK, "HEARTH_MODELS__CATALOGUE": json.dumps([str(catalogue)])}) as stack:
        yield stack


@pytest.fixture
def client(server: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60.0) as sdk:
        yield sdk


@pytest.fixture
def card(server: Stack) -> Iterator[Card]:
    """``hearth card …`` on the server's card; whatever the test did to it is undone."""

    yield lambda *arguments: command(server, *arguments)
    command(server, "set-fault", "none")


def command(server: Stack, *arguments: str) -> str:
    """What ``hearth card …`` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "hardware.virtual", *arguments],
        env={**os.environ, "HEARTH_DATA_DIR": str(server.data_dir)},
        check=True,
        capture_output=True,
        timeout=30,
    )
    return done.stdout.decode()


def card_owner(server: Stack) -> int:
    """The process that owns the card now. Raises TypeError when none does."""
    return int(json.loads(command(server, "--json"))["owner_pid"])
