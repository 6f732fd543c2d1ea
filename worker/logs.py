"""Logging of the worker's processes: one line per event to stderr, never a prompt or an answer."""

from __future__ import annotations

import logging
import sys

from config.logs import Discreet

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_OURS = "hearth"
_QUIET = ("celery", "kombu", "amqp", "multiprocessing", "transformers", "urllib3", "asyncio")
"""Loggers of others: only their warnings are told, whatever our own level."""
_KEEPS_TRACE = frozenset({"celery.app.trace"})
"""Tells of a task that failed in a way nobody foresaw. What else Celery says with a traceback (a lost child,
an absent broker) is an event, and the traceback only shows where Celery noticed it."""


class _OneLine(Discreet):
    """Other people's messages on one line, too."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name in _KEEPS_TRACE and not self.is_whole:
            record = _without_quotes(record)
        if record.name.partition(".")[0] == _OURS or record.name in _KEEPS_TRACE:
            return super().format(record)
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = " ".join(record.getMessage().split()), None
        plain.exc_info = plain.exc_text = plain.stack_info = None
        return super().format(plain)


def _without_quotes(record: logging.LogRecord) -> logging.LogRecord:
    """Celery quotes the error in its message; the traceback that follows says where it was."""
    about = getattr(record, "data", None)
    if not isinstance(about, dict):
        return record
    plain = logging.makeLogRecord(record.__dict__)
    plain.msg, plain.args = f"task {about.get('name')}[{about.get('id')}] {about.get('description')}", None
    return plain


def setup(level: str) -> None:
    """Send the ``hearth.*`` loggers and other people's warnings to stderr. ``level`` as in the settings."""
    # Of a log that cannot be written, logging would print what was to be logged.
    logging.raiseExceptions = level == "debug"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(_FORMAT, whole=level == "debug"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A job that is given back leaves Celery by an exception, which it would tell as a warning.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
