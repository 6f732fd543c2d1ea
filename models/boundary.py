"""Where what a card raises becomes what a client may be told: one table, applied by one context manager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hardware.errors import (
    CardBusy,
    CardLost,
    CardTimeout,
    FeedMismatch,
    GraphRejected,
    HardwareError,
    OutOfCardMemory,
)
from tasks.errors import CardUnavailable, EngineError, Internal, LoadFailed

TRANSLATIONS: Mapping[type[HardwareError], type[EngineError]] = {
    CardLost: CardUnavailable,
    CardTimeout: CardUnavailable,
    CardBusy: CardUnavailable,
    OutOfCardMemory: LoadFailed,
    GraphRejected: LoadFailed,
    FeedMismatch: Internal,
}
"""Each error of the card and what a job ends with. A ``FeedMismatch`` is a bug of ours, never a client's."""

_SENTENCES: Mapping[type[HardwareError], str] = {
    CardLost: "the card was lost while it worked on this job",
    CardTimeout: "the card gave no answer in time",
    CardBusy: "another process owns the card",
    OutOfCardMemory: "the card has not enough memory for this model",
    GraphRejected: "the card cannot run a file of this model",
    FeedMismatch: "the engine and the model's graphs disagree",
}


def translate(error: HardwareError) -> EngineError:
    """The job error that stands for ``error``; the most specific line of the table wins."""
    for kind in type(error).__mro__:
        if kind in TRANSLATIONS:
            return TRANSLATIONS[kind](f"{_SENTENCES[kind]}: {error}")
    return Internal(f"the card failed in a way nobody foresaw: {error}")


@contextmanager
def card_errors() -> Iterator[None]:
    """Let no ``HardwareError`` out: each leaves as its job error, with itself as the cause."""
    try:
        yield
    except HardwareError as error:
        raise translate(error) from error
