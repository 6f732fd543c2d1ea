from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from config.settings import Settings, SettingsError, read_settings
from tasks import app, ownership, reaper
from tasks.connection import broker_url, connect, connect_async
from tasks.journal import Journals
from tasks.records import fetch
from tasks.submit import submit
from tests.conftest import RedisServer
from tests.tasks.factory import delta, make_job, run_to_end

HOUSE_RULES = "on >p@ss/w%rd ~* &* +@all -@dangerous -@admin +info"
"""What `hearth up` allows its own user."""


def _at(url: str) -> Settings:
    return read_settings(redis_url=SecretStr(url))


@pytest.mark.parametrize(
    ("url", "celery"),
    [
        ("redis://u:p@h:6379/2", "redis://u:p@h:6379/2"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix://u:p%40@/run/r.sock?db=3", "redis+socket://u:p%40@/run/r.sock?virtual_host=3"),
        ("unix://:p@/run/r.sock", "redis+socket://:p@/run/r.sock?virtual_host=0"),
        ("rediss://h/0", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
    ],
)
def test_celery_is_given_the_same_address_in_its_own_form(url: str, celery: str) -> None:
    assert broker_url(_at(url)) == celery


def test_a_missing_address_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARTH_REDIS_URL", raising=False)
    with pytest.raises(SettingsError, match="hearth up"):
        connect(read_settings())


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="rediss://"):
        connect(_at("http://localhost:6379"))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Settings]:
    """A Redis with one user that may do only what Hearth needs."""
    server = RedisServer(tmp_path, "--user", "hearth", *HOUSE_RULES.split(), "--user", "probe", *_PROBE)
    yield read_settings(redis_url=SecretStr(f"unix://hearth:p%40ss%2Fw%25rd@{server.socket}?db=0"))
    server.kill()


_PROBE = ("on", "nopass", "-@all", "+ping")


async def test_the_whole_life_of_a_job_needs_no_dangerous_command(guarded: Settings) -> None:
    app.configure(guarded)
    client, aclient = connect(guarded), connect_async(guarded)
    try:
        job = make_job()
        async with Journals(aclient, guarded) as journals:
            await submit(aclient, job, guarded)
            assert client.llen("chat.tiny") == 1
            owner = ownership.take_card("c0", client, guarded)
            assert run_to_end(job, owner, delta("a", 1))
            told = [entry.event async for entry in journals.follow(job.submission.id, renew=True)]
            assert len(told) == 4
        assert reaper.Reaper(client, guarded).beat().waiting is not None
        record = await fetch(aclient, job.submission.id)
        assert record is not None
        assert record.text == "a"
    finally:
        client.close()
        await aclient.aclose()


async def test_a_task_that_is_cancelled_in_a_command_ends(settings: Settings, store: redis.Redis) -> None:
    client = connect_async(settings)

    async def ask_for_ever() -> None:
        while True:
            async with client.pipeline(transaction=False) as pipe:
                pipe.get("x")
                await pipe.execute()

    for i in range(60):
        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(i / 30_000)
        asking.cancel()
        done, _ = await asyncio.wait({asking}, timeout=2)
        assert done
    await client.aclose()
