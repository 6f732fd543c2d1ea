"""What answers jobs, as the task bodies see it; the worker fills the registry in at boot."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tasks.events import Embedded, Event, Finished
from tasks.jobs import ChatJob, EmbedJob, ImageJob, ModelJob


class Verdict(StrEnum):
    """What an engine is to do after a step. ``LOST``: another worker owns the job; say nothing more."""

    GO_ON = "go_on"
    CANCEL = "cancel"
    EXPIRE = "expire"
    LOST = "lost"


class Signals(Protocol):
    """The job's side of the conversation while an engine runs it."""

    def between_steps(self) -> Verdict:
        """Call between two card calls: renews nothing, rests while the card is held, returns what to do.

        Cheap (microseconds) except a few times a second, when it asks Redis. Journals ``Held`` and
        ``Resumed`` by itself.

        Raises:
            Shutdown: the process was told to stop; leave at once, everything will be given back.
        """
        ...

    def calling_card(self, limit_s: float) -> AbstractContextManager[None]:
        """Wrap every call into the card: past ``limit_s`` the lease is no longer renewed for us."""
        ...


class ChatEngine(Protocol):
    def stream(self, job: ChatJob, *, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        """Yield ``Loading``, deltas and at last one of the terminal events.

        ``emitted`` are the token ids an earlier attempt has journalled: they are not yielded again, and the
        text goes on as if it had never stopped. After a verdict of ``LOST`` the iterator ends without a
        terminal event.

        Raises:
            JobError: what the client may be told.
        """
        ...


class Sketch(Protocol):
    """A picture that left the card and is not yet a file. All of it may run in a thread of its own."""

    def keep(self) -> None:
        """Put the pixels where the next attempt finds them, should this process die before the end."""
        ...

    def finish(self) -> Finished:
        """Encode, write the file, and tell how it went.

        Raises:
            JobError: what the client may be told (``DiskFull``).
        """
        ...

    def discard(self) -> None:
        """The job has ended: what ``keep`` put aside is not needed any more."""
        ...


class ImageEngine(Protocol):
    def draw(self, job: ImageJob, *, signals: Signals) -> Generator[Event, None, Sketch | None]:
        """Yield ``Loading``, ``StepDone``, ``Preview`` as it goes; return the picture's pixels.

        None when a verdict ended it: a terminal event was then the last one yielded, unless the verdict was
        ``LOST``.

        Raises:
            JobError: what the client may be told.
        """
        ...


class EmbedEngine(Protocol):
    def embed(self, job: EmbedJob, *, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]:
        """Yield ``Loading``, an ``Embedded`` for each input in order, and at last one of the terminal events.

        ``emitted`` are those that an earlier attempt has journalled: they are not yielded again. After a
        verdict of ``LOST`` the iterator ends without a terminal event.

        Raises:
            JobError: what the client may be told (``ContextTooLong``).
        """
        ...


class ModelEngine(Protocol):
    def manage(self, job: ModelJob, *, signals: Signals) -> Iterator[Event]:
        """Bring the job's model to the card or take it off; yield ``Loading`` and at last ``Finished``.

        Raises:
            JobError: what the client may be told.
        """
        ...


@dataclass(slots=True)
class Engines:
    chat: ChatEngine | None = None
    image: ImageEngine | None = None
    embed: EmbedEngine | None = None
    models: ModelEngine | None = None


_ENGINES = Engines()


def engines() -> Engines:
    """The registry of this process. Empty everywhere but in the process that owns a card."""
    return _ENGINES
