"""Logs say what happened and where, never what was asked."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import TypeAdapter
from redis.exceptions import ResponseError

from config.logs import Discreet, words_of

SECRET = "a word that nobody else may read"


@contextmanager
def logged(name: str, *, whole: bool = False) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Discreet("%(levelname)s %(message)s", whole=whole))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    yield logger, written
    logger.removeHandler(handler)


def _key_error() -> None:
    raise KeyError(SECRET)


def _chained() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise LookupError(f"no {SECRET}") from error


def _in_passing() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        int(SECRET)


def _grouped() -> None:
    raise ExceptionGroup(SECRET, [ValueError(SECRET), OSError(28, "No space left on device")])


def _noted() -> None:
    error = ValueError("x")
    error.add_note(SECRET)
    raise error


def _validated() -> None:
    TypeAdapter(int).validate_python(SECRET)


def _encoded() -> None:
    (SECRET + "\ud800").encode()


@pytest.mark.parametrize(
    "fail",
    [_key_error, _chained, _in_passing, _grouped, _noted, _validated, _encoded],
    ids=lambda f: f.__name__,
)
def test_a_traceback_is_told_without_the_words(fail: Callable[[], None]) -> None:
    with logged("hearth.test") as (log, written):
        try:
            fail()
        except Exception:
            log.exception("a job failed")
    told = written.getvalue()
    assert SECRET not in told
    assert told.startswith("ERROR a job failed\nTraceback")
    assert f"in {fail.__name__}" in told
    assert "HEARTH_LOG_LEVEL=debug" in told


def test_at_debug_the_words_are_told() -> None:
    with logged("hearth.test", whole=True) as (log, written):
        try:
            _key_error()
        except KeyError:
            log.exception("a job failed")
    assert SECRET in written.getvalue()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        ResponseError("OOM command not allowed"),
        ZeroDivisionError("division by zero"),
        RuntimeError("an event after the terminal one. This is a bug."),
        TypeError("unsupported operand"),
    ],
)
def test_what_speaks_of_the_machine_is_told(error: Exception) -> None:
    assert str(error) in words_of(error)


def test_what_a_group_holds_is_told() -> None:
    with logged("hearth.test") as (log, written):
        try:
            _grouped()
        except ExceptionGroup:
            log.exception("both failed")
    assert "No space left" in written.getvalue()


async def test_a_task_that_nobody_waited_for_is_told_without_its_words() -> None:
    async def fail() -> None:
        raise ValueError(SECRET)

    with logged("asyncio") as (_, written):
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)
    told = written.getvalue()
    assert "never retrieved" in told
    assert "in fail" in told
    assert SECRET not in told
