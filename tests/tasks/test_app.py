from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from celery.beat import Scheduler

from config.settings import CHECKOUT, Settings
from tasks import monitor
from tasks.app import MONITOR_QUEUE, app, configuration


def test_what_must_not_be_got_wrong_is_configured(settings: Settings) -> None:
    told = configuration(settings)
    assert told["task_acks_late"] is True
    assert told["task_reject_on_worker_lost"] is True
    assert told["worker_prefetch_multiplier"] == 1
    assert told["worker_disable_prefetch"] is True
    assert told["worker_cancel_long_running_tasks_on_connection_loss"] is False
    assert told["accept_content"] == ["json"]
    assert told["result_backend"] is None
    assert told["task_ignore_result"] is True
    assert told["broker_transport_options"]["queue_order_strategy"] == "priority"
    assert not any("time_limit" in name for name in told)


def test_every_setting_is_one_that_celery_knows(settings: Settings) -> None:
    for name, value in configuration(settings).items():
        assert app.conf[name] == value


def test_the_beats_go_to_the_monitor_and_are_worth_nothing_late(settings: Settings) -> None:
    for beat in app.conf.beat_schedule.values():
        assert beat["schedule"].run_every.total_seconds() == settings.thermal.poll_s
        assert beat["options"] == {"queue": MONITOR_QUEUE, "expires": settings.thermal.poll_s}


def test_the_beats_go_on_when_the_clock_is_put_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(app, lazy=True)
    scheduler.setup_schedule()
    entry = scheduler.schedule["poll"]
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(app, "now", lambda: an_hour_ago)
    _, next_s = entry.is_due()
    assert next_s <= settings.thermal.poll_s


def test_the_duties_are_those_the_worker_room_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(monitor.duties, "poll", lambda: done.append("poll"))
    monkeypatch.setattr(monitor.duties, "sweep", lambda: done.append("sweep"))
    monitor.poll.run()
    monitor.sweep.run()
    assert done == ["poll", "sweep"]


def test_a_process_without_duties_says_so() -> None:
    with pytest.raises(RuntimeError, match="monitor"):
        monitor.Duties().poll()


def test_the_application_loads_no_numerics() -> None:
    program = (
        "import sys, tasks.app, tasks.chat, tasks.monitor, tasks.submit, tasks.journal, tasks.reaper;"
        "print(sorted({'numpy', 'torch', 'transformers', 'hardware', 'models'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, check=True)
    assert told.stdout.decode().strip() == "[]"
