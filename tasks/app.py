"""The Celery application: what it is told, and the one way messages are sent.

A message carries nothing but a job id, which is also Celery's task id: prompts stay in the job's record, and
the dashboard and the API speak of the same thing.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.schedules import schedule
from kombu import pools
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from config.settings import Settings
from config.settings import settings as read_settings
from tasks.connection import broker_url

log = logging.getLogger("hearth.tasks.app")

MONITOR_QUEUE = "monitor"
VISIBILITY_TIMEOUT_S = 86400
"""A day: a lease recovers a lost worker, not the broker; a message that comes back late is swallowed."""

_RETRY = {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.05, "interval_max": 0.1}


def configuration(settings: Settings) -> dict[str, Any]:
    """Everything Celery is told."""
    return {
        "broker_url": broker_url(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            # Queues are served in the order in which they are consumed, which is what the gate arranges.
            "queue_order_strategy": "priority",
            # No message has a priority of its own, so there is one list per queue to look into, not four.
            "priority_steps": [0],
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": 2.0,
        },
        # A message is acknowledged when its job has ended, and comes back when the process died.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # True lost the running job when Redis went away: Celery 5.7.0, measured November 2026.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # No time limits: they SIGKILL the process that owns the card.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # The journal is the result.
        "result_backend": None,
        "task_ignore_result": True,
        "task_create_missing_queues": True,
        "task_default_queue": MONITOR_QUEUE,
        # The dashboard lives on these.
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        # A child that opens a card and reads its state may take longer than Celery's 4 s.
        "worker_proc_alive_timeout": 60.0,
        "timezone": "UTC",
        "enable_utc": True,
        "beat_schedule": _beats(settings.thermal.poll_s),
    }


def _beats(every_s: float) -> dict[str, Any]:
    """The monitor's duties. One that could not be served in time is worth nothing."""
    options = {"queue": MONITOR_QUEUE, "expires": every_s}
    every = schedule(every_s, nowfun=_steady_now)
    return {
        name: {"task": f"hearth.{name}", "schedule": every, "options": options} for name in ("poll", "sweep")
    }


_STARTED_AT, _STARTED_S = datetime.now(UTC), time.monotonic()


def _steady_now() -> datetime:
    """The time by a clock that never jumps. Beat compares times: when the wall clock was put back by an hour
    it slept for an hour, and the card was held for want of readings.
    """
    return _STARTED_AT + timedelta(seconds=time.monotonic() - _STARTED_S)


app = Celery(
    "hearth",
    set_as_current=True,
    include=["tasks.chat", "tasks.image", "tasks.embed", "tasks.model", "tasks.monitor"],
)
_settings: Settings | None = None


def configure(settings: Settings) -> None:
    """Give the application these settings; without a call it takes the process's own at first use."""
    global _settings
    _settings = settings
    if app.configured:  # type: ignore[attr-defined]  # celery-types 0.26 does not know it
        app.conf.update(configuration(settings))


app.add_defaults(lambda: configuration(_settings or read_settings()))


@lru_cache(maxsize=1)
def _connection(url: str) -> Any:
    """The key to the pool of connections to ``url``: making a key takes longer than sending a message."""
    return app.connection_for_write(url)


def send(task: str, job_id: str, queue: str) -> bool:
    """Put one message into a queue; thread-safe, over pooled connections. False when the broker is away."""
    try:
        with pools.producers[_connection(app.conf.broker_url)].acquire(block=True, timeout=5.0) as producer:
            app.send_task(
                task,
                args=(job_id,),
                task_id=job_id,
                queue=queue,
                producer=producer,
                retry=True,
                retry_policy=_RETRY,
                ignore_result=True,
            )
    except (KombuError, RedisError, OSError) as error:
        log.warning("message for %s not sent, the reaper will: %s", job_id, error)
        return False
    return True
