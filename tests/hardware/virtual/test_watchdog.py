from __future__ import annotations

import threading
import time

from hardware.virtual.watchdog import Watchdog


def test_it_calls_out_once_when_time_is_up() -> None:
    called = threading.Event()
    dog = Watchdog(called.set)
    dog.arm(0.02)
    assert called.wait(5)
    assert dog.fired
    dog.close()


def test_it_stays_quiet_for_what_ended_in_time() -> None:
    calls: list[float] = []
    dog = Watchdog(lambda: calls.append(time.monotonic()))
    for _ in range(100):
        dog.arm(0.3)
        dog.disarm()
    time.sleep(0.4)
    assert not calls
    assert not dog.fired
    dog.close()


def test_an_earlier_deadline_wakes_it_from_a_later_one() -> None:
    called = threading.Event()
    dog = Watchdog(called.set)
    dog.arm(3600)
    time.sleep(0.02)
    dog.disarm()
    dog.arm(0.02)
    assert called.wait(5)
    dog.close()


def test_closing_ends_its_thread() -> None:
    before = threading.active_count()
    dog = Watchdog(lambda: None)
    dog.arm(3600)
    dog.close()
    assert threading.active_count() == before
