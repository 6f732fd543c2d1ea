"""``hearth up``: from nothing to serving, and back to nothing left behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli import banner, house, wheel
from cli.banner import Serving
from cli.private_redis import PrivateRedis
from cli.probe import Probe, reachable, url_of
from cli.processes import Process, process_table
from cli.supervisor import Interrupted, Supervisor
from config.settings import Settings

REDIS_START_S = 60.0
API_START_S = 60.0
_DIALECTS = {"ollama_port": "Ollama", "a1111_port": "A1111"}
"""What the banner calls the further ports."""
READY_S = 30.0
"""After this long the banner says what is still amiss; the processes go on trying."""

Table = Callable[[Settings, str], tuple[Process, ...]]
"""Settings and the dashboard's ``user:password`` → every process but Redis, in the order of starting."""


@dataclass(frozen=True, slots=True)
class Options:
    verbose: bool = False
    as_json: bool = False


def say(text: str) -> None:
    # Whoever read may have left (Ctrl-C ends the ``tee`` behind a pipe first): that must not stop us.
    with suppress(OSError):
        sys.stderr.write(f"hearth: {text}\n")
        sys.stderr.flush()


def up(settings: Settings, options: Options, table: Table = process_table) -> int:
    """Serve until told to stop. Returns the exit status.

    Raises:
        CliError: it cannot start; nothing is left running.
    """
    began_s = time.monotonic()
    os.umask(0o077)
    logs = house.prepare_directories(settings)
    lock = house.HouseLock(settings.data_dir)
    try:
        settings = _with_ports(settings)
        wheel.install(settings.axengine_wheel, say)
        private = PrivateRedis(settings.data_dir) if settings.redis_url is None else None
        redis_url = private.url if private else _reached(settings)
        try:
            return asyncio.run(_House(settings, options, table, private, redis_url, logs, began_s).serve())
        finally:
            if private is not None:
                private.close()
    finally:
        lock.release()


_INSTEAD = {
    "port": "choose another with --port, or --port 0 for any",
    "ollama_port": "Ollama itself may be there: stop it (sudo systemctl stop ollama), or leave out "
    "--ollama-port (HEARTH_OLLAMA_PORT)",
    "a1111_port": "AUTOMATIC1111's web UI may be there: end it, or leave out --a1111-port "
    "(HEARTH_A1111_PORT)",
}


def _with_ports(settings: Settings) -> Settings:
    """The same settings with a real port where 0 asked for any. Raises CliError."""
    ports = {
        name: house.claim_port(settings.host, port, what="the API", instead=_INSTEAD[name])
        for name, port in settings.ports.items()
    }
    flower_port = settings.flower_port
    if settings.flower:
        flower_port = house.claim_port(
            "127.0.0.1",
            settings.flower_port,
            what="the dashboard",
            instead="set HEARTH_FLOWER_PORT (0 for any), or HEARTH_FLOWER=false to do without",
        )
    return settings.model_copy(update={**ports, "flower_port": flower_port})


def _reached(settings: Settings) -> str:
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    house.reach_redis(url)
    return url


class _House:
    """One run of ``hearth up``, from the first process to the last."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        table: Table,
        private: PrivateRedis | None,
        redis_url: str,
        logs: Path,
        began_s: float,
    ) -> None:
        self._settings = settings
        self._options = options
        self._private = private
        self._logs = logs
        self._began_s = began_s
        self._secret, self._secret_is_new = house.dashboard_secret(settings.data_dir)
        self._table = {process.name: process for process in table(settings, self._secret)}
        self._environment = house.child_environment(settings, redis_url)
        key = settings.api_key.get_secret_value() if settings.api_key else None
        self._probe = Probe(reachable(settings.host), settings.port, key)

    async def serve(self) -> int:
        supervisor = Supervisor(
            logs=self._logs, environment=self._environment, verbose=self._options.verbose, say=say
        )
        supervisor.card_is_virtual = self._settings.card == "virtual"
        supervisor.watch_signals()
        say(f"starting; everything is kept in {self._settings.data_dir}")
        try:
            serving = await self._start(supervisor)
            banner.show(serving, as_json=self._options.as_json)
            await supervisor.stop_asked.wait()
        except Interrupted:
            pass
        finally:
            stopping_s = time.monotonic()
            await supervisor.stop()
        say(f"stopped in {time.monotonic() - stopping_s:.1f} s; nothing is left running")
        return 0

    async def _start(self, supervisor: Supervisor) -> Serving:
        if self._private is not None:
            supervisor.start(self._private.process)
            await supervisor.until_ready(self._private.answers(), timeout_s=REDIS_START_S, what="redis")
        for name, process in self._table.items():
            if name != "flower":
                supervisor.start(process)
        await supervisor.until_ready(self._api_lives(), timeout_s=API_START_S, what="the API")
        serving = self._serving()
        await supervisor.until_ready(self._all_ready(serving), timeout_s=2 * READY_S, what="the server")
        serving.ready_s = time.monotonic() - self._began_s
        await self._learn(serving)
        supervisor.card_is_virtual = bool(serving.cards) and all(
            card.get("virtual") for card in serving.cards
        )
        if "flower" in self._table:  # last: its start would take a core from those who are waited for
            supervisor.start(self._table["flower"])
        return serving

    async def _api_lives(self) -> None:
        while await self._probe.get("/health") is None:  # noqa: ASYNC110 - another process has no event here
            await asyncio.sleep(0.05)

    async def _all_ready(self, serving: Serving) -> None:
        """Return when jobs are served, or after a while with what is amiss in ``serving.faults``."""
        give_up_s = time.monotonic() + READY_S
        while True:
            answer = await self._probe.get("/ready")
            if answer is not None and answer[0] == 200:
                serving.faults = []
                return
            serving.faults = list(answer[1].get("why", [])) if answer else ["the API does not answer"]
            if time.monotonic() > give_up_s:
                return
            await asyncio.sleep(0.1)

    async def _learn(self, serving: Serving) -> None:
        cards, models = await self._probe.get("/v1/device"), await self._probe.get("/v1/models")
        if cards is not None:
            serving.cards = cards[1].get("data", [])
        if models is not None:
            serving.models, serving.unusable = models[1].get("data", []), models[1].get("unusable", [])

    def _serving(self) -> Serving:
        settings = self._settings
        has_flower = "flower" in self._table
        return Serving(
            url=url_of(settings.host, settings.port),
            also={
                _DIALECTS[name]: url_of(settings.host, port)
                for name, port in settings.ports.items()
                if name in _DIALECTS
            },
            pid=os.getpid(),
            data_dir=str(settings.data_dir),
            models_dir=str(settings.packages_dir),
            logs=str(self._logs),
            dashboard=url_of("127.0.0.1", settings.flower_port) if has_flower else None,
            dashboard_secret=self._secret if has_flower and self._secret_is_new else None,
            needs_key=settings.api_key is not None,
        )
