"""The dashboard's events: told, but never before the task itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from worker.events import LATER_S, LateEvents


class Hub:
    """Remembers what was to be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append((delay_s, callback))


def consumer() -> SimpleNamespace:
    flushed: list[str] = []
    dispatcher = SimpleNamespace(on_send_buffered=None, flush=lambda: flushed.append("flush"))
    return SimpleNamespace(hub=Hub(), event_dispatcher=dispatcher, flushed=flushed)


def test_many_events_are_published_once_and_later() -> None:
    one = consumer()
    LateEvents(one).start(one)
    for _ in range(3):
        one.event_dispatcher.on_send_buffered()
    assert one.flushed == []
    assert [delay for delay, _ in one.hub.later] == [LATER_S]
    one.hub.later[0][1]()
    assert one.flushed == ["flush"]


def test_events_after_a_publication_are_published_too() -> None:
    one = consumer()
    LateEvents(one).start(one)
    for _ in range(2):
        one.event_dispatcher.on_send_buffered()
        one.hub.later[-1][1]()
    assert one.flushed == ["flush", "flush"]


def test_a_worker_without_a_dashboard_needs_nothing() -> None:
    one = SimpleNamespace(hub=Hub(), event_dispatcher=None)
    LateEvents(one).start(one)
    assert one.hub.later == []
