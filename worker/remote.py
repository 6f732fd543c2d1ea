"""What worker-npu answers to Celery's remote control: one may look, but not touch the card's owner."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel

from config.settings import Settings
from tasks.cancel import cancel
from tasks.connection import connect_async
from tasks.jobs import JobId

log = logging.getLogger("hearth.remote")

_KEPT = frozenset({"ping", "heartbeat", "enable_events", "disable_events", "hello"})
"""Commands, beside those that only look, that cannot harm: Flower needs them."""


def restrict(settings: Settings, drain: Callable[[], None]) -> None:
    """Take every command out of this process's registry that could grow, kill or re-steer the pool.

    ``revoke`` (also with ``terminate``) sets our cancel flag and nothing else; ``shutdown`` drains.
    """
    for name, meta in list(Panel.meta.items()):
        if meta.type == "control" and name not in _KEPT:
            Panel.data.pop(name, None)
            Panel.data.pop(meta.alias or name, None)
            del Panel.meta[name]

    def revoke(state: object, task_id: str | list[str], **_: object) -> dict[str, str]:
        """Cancel jobs by id; a running one stops at its next step."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        # The command is answered inside the worker's loop, which must not wait for Redis.
        threading.Thread(target=_cancel_all, args=(ids, settings), daemon=True).start()
        return {"ok": f"cancelling {', '.join(ids)}"}

    def shutdown(state: object, **_: object) -> dict[str, str]:
        """Drain: the running job goes back to the queue, the card is closed, the worker leaves."""
        drain()
        return {"ok": "draining"}

    _register(revoke, args=[("task_id", str)], signature="[id1 [id2 [... [idN]]]]")
    _register(shutdown)


def _register(command: Callable[..., dict[str, str]], **options: Any) -> None:
    register: Any = Panel.register
    register(type="control", **options)(command)


def _cancel_all(ids: Iterable[str], settings: Settings) -> None:
    async def run() -> None:
        async with connect_async(settings) as client:
            for job_id in ids:
                state = await cancel(client, JobId(job_id))
                log.info("revoked %s: %s", job_id, state.value if state else "no such job")

    try:
        asyncio.run(run())
    except Exception:
        log.exception("could not cancel revoked jobs")
