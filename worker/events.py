"""The dashboard's events, told a moment later than Celery would."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

LATER_S = 0.05
"""Nobody sees the difference on a dashboard; a job would wait for it."""


class LateEvents(bootsteps.StartStopStep):
    """Publishes what happened to tasks in one go, when the loop has had time for the task itself.

    Celery publishes the buffered "task-received" before it writes the task to the child's pipe, which took a
    millisecond of every job's way to its first token.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, consumer: Any) -> None:
        is_waiting = False

        def publish() -> None:
            nonlocal is_waiting
            is_waiting = False
            if consumer.event_dispatcher:
                consumer.event_dispatcher.flush()

        def publish_later() -> None:
            nonlocal is_waiting
            if not is_waiting:
                is_waiting = True
                consumer.hub.call_later(LATER_S, publish)

        if consumer.event_dispatcher and consumer.hub:
            consumer.event_dispatcher.on_send_buffered = publish_later
