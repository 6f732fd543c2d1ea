from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from worker import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*logs._QUIET, "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def failing(logger: str, message: str) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger(logger).exception(message)


def test_what_celery_tells_of_an_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info")
    failing("celery.worker.request", "the child\n  is gone")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ERROR   celery.worker.request: the child is gone")


@pytest.mark.parametrize("logger", ["hearth.gate", "celery.app.trace"])
def test_a_failure_nobody_foresaw_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], logger: str
) -> None:
    logs.setup("info")
    failing(logger, "a bug")
    assert "ValueError: why" in capsys.readouterr().err


def test_others_are_quiet_whatever_our_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug")
    logging.getLogger("celery.worker").info("Task received")
    logging.getLogger("hearth.gate").debug("consuming")
    assert "Task received" not in (told := capsys.readouterr().err)
    assert "consuming" in told
