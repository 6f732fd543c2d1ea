"""The facts processes tell one another through Redis: the catalog, the card's health, holds and residents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import TypeAdapter

from tasks.events import HoldReason

Fact = TypeVar("Fact")


class PictureSize(NamedTuple):
    """In pixels; as people and clients say it, ``512x768`` is portrait."""

    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a picture model can draw; the first of ``sizes`` and ``default_steps`` for those who do not say.

    ``steps`` are the numbers of steps whose time inputs are there. ``from_pictures``: it can start from one.
    ``sha256`` tells the model's weights from others of its name; None until they were read.
    """

    sizes: tuple[PictureSize, ...]
    steps: tuple[int, ...]
    default_steps: int
    from_pictures: bool = False
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Embedding:
    """What an embedding model makes: vectors of ``dimensions`` numbers; None where only loading can tell.

    ``shorter``: to so many they may be cut; ``shortens``: to any number. ``prompts``: the names of what may
    stand before a text.
    """

    dimensions: int | None
    shorter: tuple[int, ...] = ()
    shortens: bool = False
    prompts: tuple[str, ...] = ()

    def allows(self, dimensions: int) -> bool:
        """Whether vectors of so many numbers can be had."""
        if dimensions == self.dimensions or dimensions in self.shorter:
            return True
        return self.shortens and 1 <= dimensions <= (self.dimensions or dimensions)


@dataclass(frozen=True, slots=True)
class Model:
    """One package as clients may know it.

    ``context`` and ``longest_token_bytes`` are None where only loading can tell. ``problem`` says why a
    package cannot be used, and what to do about it; a usable one has none. ``sampling`` holds the package's
    own values for what a request leaves open, by the names of ``tasks.jobs.Sampling``. ``knows_tools`` and
    ``knows_thinking`` say what its chat template is made for. ``pictures`` is there for ``kind`` ``image``,
    ``embedding`` for ``embed``.
    ``needs_bytes``: card memory it takes, measured when it was loaded or estimated from its files.
    ``keep_resident``: once loaded, it makes no room for others.
    """

    id: str
    kind: str
    directory: str
    size_bytes: int
    created_at_s: int
    context: int | None = None
    longest_token_bytes: int | None = None
    aliases: tuple[str, ...] = ()
    family: str = ""
    is_demo: bool = False
    keep_resident: bool = False
    problem: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    knows_tools: bool = False
    knows_thinking: bool = False
    pictures: Pictures | None = None
    embedding: Embedding | None = None
    needs_bytes: int | None = None
    needs_basis: Literal["estimated", "measured"] | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything found in the model directories at ``scanned_at_ms``."""

    scanned_at_ms: int
    models: tuple[Model, ...] = ()

    def find(self, name: str) -> Model | None:
        """The model of that id or alias; case does not matter."""
        wanted = name.lower()
        for model in self.models:
            if wanted == model.id.lower() or wanted in (alias.lower() for alias in model.aliases):
                return model
        return None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One reading of a card. What the card did not tell is None: news, not zero."""

    read_at_ms: int
    temperature_c: float | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    npu_percent: float | None = None
    cpu_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a card's history, begun at ``at_ms``.

    ``duty`` is the mean share of the time that the card might work, 0 while it was held; ``missing`` counts
    polls without a reading. The free memory is the least of the minute.
    """

    at_ms: int
    mean_c: float | None
    max_c: float | None
    npu_percent: float | None
    memory_free_bytes: int | None
    duty: float
    missing: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a card rests. ``since_ms`` is wall-clock milliseconds.

    ``unload``: it is too hot even to keep its models, so a running job goes back to the queue.
    """

    reason: HoldReason
    message: str
    since_ms: int
    unload: bool = False


@dataclass(frozen=True, slots=True)
class Ease:
    """A warm card works this share of the time (below 1) and rests between steps."""

    duty: float
    since_ms: int


@dataclass(frozen=True, slots=True)
class Resident:
    """One model on the card: its measured need and when it was last used."""

    model: str
    size_bytes: int
    used_at_ms: int
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Residents:
    """What is on the card, told by the process that owns it. ``name`` and ``firmware`` are the card's own.

    ``left_ms``: when each model that was there was last replaced, that is, when what took its place was
    ready. ``load_ms``: what bringing each took last time. ``pinned``: those that make no room for others.
    """

    epoch: int
    card: str
    name: str
    firmware: str
    bus_id: str
    is_virtual: bool
    memory_total_bytes: int
    models: tuple[Resident, ...] = field(default_factory=tuple)
    left_ms: Mapping[str, float] = field(default_factory=dict)
    load_ms: Mapping[str, float] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """The card's process has lost its card, or cannot open one that was there before."""

    at_ms: int
    message: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The card's process lives. ``call_since_ms`` is set while it is inside a call into the card.

    ``loading`` names the model that is on its way to the card.
    """

    at_ms: int
    pid: int
    job: str | None = None
    call_since_ms: int | None = None
    call_limit_s: float | None = None
    loading: str | None = None


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Building one costs milliseconds, using it microseconds."""


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def encode(fact: object) -> bytes:
    return _adapter(type(fact)).dump_json(fact)


def decode(kind: type[Fact], data: bytes | str | None) -> Fact | None:
    """None stays None. Raises pydantic.ValidationError when ``data`` is not such a fact."""
    if data is None:
        return None
    fact: Fact = _adapter(kind).validate_json(data)
    return fact
