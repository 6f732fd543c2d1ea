"""What a model on the card is to whoever keeps it there: the seam between ``worker`` and ``models``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, runtime_checkable

from hardware.card import Card
from tasks import board
from tasks.board import PictureSize
from tasks.engines import Signals, Sketch
from tasks.events import Embedded, Event
from tasks.jobs import ChatJob, EmbedJob, ImageJob

Files = tuple[int, int]
"""Files on the card, and files in all."""


class LoadedModel(Protocol):
    """A model on the card, whatever it does. ``context``: tokens of prompt and answer, or of a text; None for
    pictures.
    """

    @property
    def context(self) -> int | None: ...

    @property
    def size_bytes(self) -> int: ...

    def trim(self) -> int:
        """Give back card memory that only saves time; how many bytes that were."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class LoadedChat(LoadedModel, Protocol):
    """A model that answers."""

    def stream(self, job: ChatJob, emitted: Sequence[int], signals: Signals) -> Iterator[Event]: ...


@runtime_checkable
class LoadedPictures(LoadedModel, Protocol):
    """A model that draws, in the sizes that were brought."""

    def has(self, size: PictureSize) -> bool: ...

    def bring(self, size: PictureSize) -> Generator[Files, None, None]:
        """Load what pictures of ``size`` need; as a ``Loader`` does."""
        ...

    def draw(
        self, job: ImageJob, signals: Signals, load_ms: float
    ) -> Generator[Event, None, Sketch | None]: ...


@runtime_checkable
class LoadedVectors(LoadedModel, Protocol):
    """A model that turns texts into vectors."""

    def embed(self, job: EmbedJob, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]: ...


Loader = Callable[[Card, board.Model, PictureSize | None], Generator[Files, None, LoadedModel]]
"""Puts a model on the card, for pictures of a size if it draws any, yielding after each file; returns it.

Raises HardwareError or JobError and leaves nothing behind; so it does when it is closed half-way.
"""
