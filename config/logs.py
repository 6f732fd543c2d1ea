"""What a log may hold: what happened and where, never what somebody asked for or was told.

Our own lines name jobs by their ids. What is left are errors nobody foresaw, whose words may quote what they
stumbled over: a prompt, a body, a key. Their traceback is told, their words are not, unless the log level is
``debug``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType

_WITHHELD = "(its words may quote a request: HEARTH_LOG_LEVEL=debug tells them)"
_SAFE: tuple[type[BaseException], ...] = (
    OSError,
    ImportError,
    MemoryError,
    ArithmeticError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RecursionError,
)
"""Errors that speak of the machine and of the program: files, modules, types. ValueError, KeyError and all
that come from them speak of data."""
_SAFE_PACKAGES = frozenset({"redis", "onnxruntime", "hardware"})
"""Whose errors speak of connections, graphs and cards."""


class Discreet(logging.Formatter):
    """Tells tracebacks without the words of errors that may quote a request; ``whole`` tells all."""

    def __init__(self, form: str, *, whole: bool = False) -> None:
        super().__init__(form)
        self.is_whole = whole

    def format(self, record: logging.LogRecord) -> str:
        if record.name == "asyncio" and not self.is_whole:
            # It says which task failed, with the task's error; that one follows as a traceback.
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = record.getMessage().partition("\n")[0], None
        return super().format(record)

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        if self.is_whole or ei[1] is None:
            return super().formatException(ei)
        return "\n".join(_lines(ei[1], set()))


def words_of(error: BaseException) -> str:
    """What an error says of itself, if that cannot be something of a request; else only which error it is."""
    kind = type(error)
    if isinstance(error, UnicodeError) or not _is_safe(error):
        return f"{kind.__name__} {_WITHHELD}"
    return f"{kind.__name__}: {error}"


def _is_safe(error: BaseException) -> bool:
    # Exactly a RuntimeError is one of the interpreter's, or of ours about ourselves.
    return (
        isinstance(error, _SAFE)
        or type(error) is RuntimeError
        or type(error).__module__.partition(".")[0] in _SAFE_PACKAGES
    )


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    """As Python prints it, what it came from first."""
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in seen:
        yield from _lines(earlier, seen)
        yield "\nThat led to:\n"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield words_of(error)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _lines(part, seen)
