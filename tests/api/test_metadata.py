"""What only tells how things stand: it reads what others have written, and writes nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis

METADATA = (
    "/health",
    "/ready",
    "/v1/models",
    "/v1/models/tiny-chat",
    "/v1/queue",
    "/v1/device",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/sdapi/v1/sd-models",
    "/sdapi/v1/samplers",
    "/sdapi/v1/options",
    "/sdapi/v1/memory",
)
_SCRIPTS = frozenset({"eval", "evalsha", "fcall"})


def _calls(house: redis.Redis) -> dict[str, int]:
    """How often each command was called so far."""
    told: Any = house.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in told.items()}


def _writes(house: redis.Redis, command: str) -> bool:
    told: Any = house.command()
    flags = {name.lower(): each["flags"] for name, each in told.items()}
    return command in _SCRIPTS or "write" in flags.get(command.split("|")[0], ())


@pytest.mark.parametrize("path", METADATA)
async def test_metadata_is_read_and_nothing_is_written(
    client: httpx.AsyncClient, house: redis.Redis, path: str
) -> None:
    before = _calls(house)
    assert (await client.get(path)).status_code in (200, 503), "/ready has reasons to say no here"
    called = [name for name, calls in _calls(house).items() if calls > before.get(name, 0)]
    assert [name for name in called if _writes(house, name)] == []
