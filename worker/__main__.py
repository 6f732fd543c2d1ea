"""``python -m worker npu`` and ``python -m worker monitor``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

import redis

from config.settings import Settings, SettingsError, settings
from tasks.connection import AWAY, connect
from worker import logs

log = logging.getLogger("hearth.worker")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Run one of Hearth's workers.")
    parser.add_argument("role", choices=["npu", "monitor"], help="npu owns the card; monitor watches over it")
    role = parser.parse_args().role
    try:
        config = settings()
        logs.setup(config.log_level)
        _reach_redis(config)
    except SettingsError as error:
        sys.exit(f"worker-{role}: {error}")
    log.info("settings: %s", config.redacted())
    # Each role loads only what it needs; the parent of worker-npu must stay free of device libraries.
    importlib.import_module(f"worker.{role}").run(config)


def _reach_redis(config: Settings) -> None:
    """Raises SettingsError in one line."""
    client = connect(config)
    try:
        client.ping()
    except (*AWAY, redis.RedisError) as error:
        where = client.connection_pool.connection_kwargs
        place = where.get("path") or f"{where.get('host')}:{where.get('port')}"
        raise SettingsError(
            f"Redis cannot be reached at {place}: {error}; start it, or correct HEARTH_REDIS_URL"
        ) from error
    finally:
        client.close()


if __name__ == "__main__":
    main()
