"""The whole contract between the engines and a card: tensors and steps in, bytes and seconds out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = Mapping[str, Array]

NUMPY_DTYPES: Mapping[str, np.dtype[Any]] = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i64": np.dtype(np.int64),
}
"""The element types a card speaks, by the short names used in ``TensorSpec.dtype``."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a shape group: name, element type (a key of ``NUMPY_DTYPES``), static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return NUMPY_DTYPES[self.dtype]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.numpy_dtype.itemsize


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """One set of static shapes a graph was compiled for; ``index`` is its place in the file."""

    index: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """The input called ``name``, or ``name_{index}`` as some compilers write it. Raises KeyError."""
        return _find(self.inputs, name, self.index)

    def output(self, name: str) -> TensorSpec:
        """The output called ``name``, or ``name_{index}`` as some compilers write it. Raises KeyError."""
        return _find(self.outputs, name, self.index)


def _find(specs: tuple[TensorSpec, ...], name: str, group: int) -> TensorSpec:
    by_name = {spec.name: spec for spec in specs}
    for candidate in (name, f"{name}_{group}"):
        if candidate in by_name:
            return by_name[candidate]
    raise KeyError(f"no tensor {name!r} in group {group}; it has {sorted(by_name)}")


class KvWrite(StrEnum):
    """How a layer's new K/V row reaches the cache: written in place, or copied on the card afterwards."""

    ROW = "row"
    COPY = "copy"


class Prefill(StrEnum):
    """How a prompt goes through the layers: by chunks, or token by token through the decode group."""

    CHUNK = "chunk"
    DECODE = "decode"


class Mix(StrEnum):
    """What to do when a network that came from ONNX is wanted while layers of a language model are loaded.

    Some SDKs drop the card then.
    """

    RESTART = "restart"
    """Unload all, and load it in a fresh process."""
    REBOOT = "reboot"
    """Unload all, boot the card anew, and load it in a fresh process."""
    FREE = "free"
    """Load it: this card takes no harm."""


@dataclass(frozen=True, slots=True)
class CardInfo:
    """Who the card is. ``id`` is stable and fit for keys (``virtual-0``); ``memory_bytes`` is its CMM."""

    id: str
    name: str
    index: int
    bus_id: str
    memory_bytes: int
    firmware: str
    is_virtual: bool


@dataclass(frozen=True, slots=True)
class CardTraits:
    """What the card can do and how it wants to be driven; on a real card the safe ways are the default."""

    resident_buffers: bool
    kv_write: KvWrite
    prefill: Prefill
    stream_execution: bool
    mix: Mix = Mix.FREE
    post_first: bool = False
    """Whether a language model's last graph goes onto the card before its layers."""


@dataclass(frozen=True, slots=True)
class CardMemory:
    """CMM of the card, in bytes."""

    total_bytes: int
    free_bytes: int


@dataclass(slots=True)
class Counters:
    """What crossed the bus since the card was opened. ``busy_s``: time in executes, by the card's clock."""

    h2d_bytes: int = 0
    d2h_bytes: int = 0
    d2d_bytes: int = 0
    h2d_calls: int = 0
    d2h_calls: int = 0
    d2d_calls: int = 0
    executes: int = 0
    busy_s: float = 0.0

    def copy(self) -> Counters:
        """The figures as they are now."""
        return Counters(*(getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class View:
    """``size_bytes`` bytes of a buffer from ``offset_bytes`` on. Views cost nothing and own nothing."""

    buffer: Buffer
    offset_bytes: int
    size_bytes: int


class Buffer(Protocol):
    """A piece of card memory, zero-filled when handed out. Closing twice is harmless."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def address(self) -> int:
        """The card's own address of the first byte; never a host pointer."""
        ...

    def write(self, data: Array | bytes, offset_bytes: int = 0) -> None:
        """Send ``data``'s bytes (C order) up to ``offset_bytes``. Raises FeedMismatch beyond the end."""
        ...

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Bring bytes down. Raises FeedMismatch beyond the end."""
        ...

    def read_into(self, target: Array, offset_bytes: int = 0) -> None:
        """Bring ``target.nbytes`` bytes down into a C-contiguous array of the host, allocating nothing."""
        ...

    def copy_from(self, source: View, offset_bytes: int = 0) -> None:
        """Copy on the card, without the bus. Raises FeedMismatch beyond either end."""
        ...

    def view(self, offset_bytes: int = 0, size_bytes: int | None = None) -> View:
        """A window; ``None`` means up to the end."""
        ...

    def close(self) -> None: ...


class Step(Protocol):
    """One execution of one group with every tensor bound, ready to run as often as wanted."""

    def rebind(self, name: str, view: View) -> None:
        """Bind another view of exactly the tensor's size to the tensor called ``name`` (input or output)."""
        ...


class Graph(Protocol):
    """One compiled network on one card. Blocking, not thread-safe; closing twice is harmless."""

    @property
    def groups(self) -> Sequence[ShapeGroup]: ...

    def run(self, feeds: Tensors, *, group: int = 0, timeout_s: float) -> Tensors:
        """Execute once; the returned arrays are copies that outlive the next call.

        Raises:
            FeedMismatch: a name, shape or dtype departs from the group's inputs.
            CardTimeout: no answer within ``timeout_s``; the card is then lost.
            CardLost: the device left the bus; every graph of the process is dead.
        """
        ...

    def bind(self, group: int, inputs: Mapping[str, View], outputs: Mapping[str, View]) -> Step:
        """A step with every input and output bound, each view exactly its tensor's size.

        An output may overlap an input only as ``K_cache_out`` does its own ``K_cache`` (and V likewise): in
        bytes that the mask excludes for that execution.

        Raises:
            FeedMismatch: a tensor is missing, unknown or of another size, or views overlap otherwise.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Streams(Protocol):
    """A card that can hand a list of steps over together. ``on``: whether it does so from now on."""

    def stream(self, on: bool) -> None: ...


class Card(Protocol):
    """One card, owned by one process. All calls from one thread. Closing twice is harmless."""

    @property
    def info(self) -> CardInfo: ...

    @property
    def traits(self) -> CardTraits: ...

    @property
    def counters(self) -> Counters:
        """Live figures; take ``copy()`` to compare."""
        ...

    def memory(self) -> CardMemory: ...

    def load(self, path: Path) -> Graph:
        """Put a compiled graph on the card.

        Raises:
            GraphRejected: missing, truncated, or not for this card.
            OutOfCardMemory: it does not fit; nothing is kept.
        """
        ...

    def allocate(self, size_bytes: int) -> Buffer:
        """Zero-filled card memory. Raises OutOfCardMemory."""
        ...

    def execute(self, steps: Sequence[Step], *, timeout_s: float) -> None:
        """Run the steps in order, each seeing what the former wrote; return when the last has ended.

        Raises:
            CardTimeout: no answer within ``timeout_s``; the card is then lost.
            CardLost: the device left the bus.
        """
        ...

    def close(self) -> None:
        """Give everything back; a lost card is left alone."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
