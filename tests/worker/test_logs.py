from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from worker import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    logging.raiseExceptions = raises
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
    told = capsys.readouterr().err
    assert "in failing" in told
    assert "ValueError (" in told
    assert "why" not in told.replace('raise ValueError("why")', "")


def test_celerys_word_of_a_task_does_not_quote_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    """As ``celery.app.trace`` logs it, 5.7."""
    about = {
        "name": "hearth.chat",
        "id": "job_1",
        "description": "raised unexpected",
        "exc": "ValueError('why')",
        "traceback": "Traceback: why",
    }
    form = "Task %(name)s[%(id)s] %(description)s: %(exc)s\n%(traceback)s"
    logs.setup("info")
    logging.getLogger("celery.app.trace").error(form, about, extra={"data": about})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("task hearth.chat[job_1] raised unexpected")


def test_others_are_quiet_whatever_our_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug")
    logging.getLogger("celery.worker").info("Task received")
    logging.getLogger("hearth.gate").debug("consuming")
    assert "Task received" not in (told := capsys.readouterr().err)
    assert "consuming" in told
