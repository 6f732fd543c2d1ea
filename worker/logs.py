"""Logging of the worker's processes: one line per event to stderr, never a prompt or an answer."""

from __future__ import annotations

import logging
import sys

_WITHOUT_TRACE = frozenset({"celery.worker.request"})
"""Tells of a lost child with the traceback of where Celery noticed it, which helps nobody."""
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_QUIET = ("celery", "kombu", "amqp", "multiprocessing", "transformers", "urllib3", "asyncio")
"""Loggers of others: only their warnings are told, whatever our own level."""


def setup(level: str) -> None:
    """Send the ``hearth.*`` loggers and other people's warnings to stderr. ``level`` as in the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_one_line)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A job that is given back leaves Celery by an exception, which it would tell with a traceback.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _one_line(record: logging.LogRecord) -> bool:
    if record.name in _WITHOUT_TRACE:
        record.exc_info = record.exc_text = None
    return True
