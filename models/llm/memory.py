"""What a model keeps on the card beside its graphs: resident K/V caches, and buffers that steps share."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware.card import Buffer, Card, ShapeGroup, View
from models.llm.geometry import Geometry

VISIBLE = np.uint16(0)
BLOCKED = np.uint16(0xC780)
"""bf16 bits of 0.0 and −65536.0: what the additive mask is made of."""


class Workspace:
    """Allocates on one card and gives everything back at once. Closing twice is harmless."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self._stack = ExitStack()
        self._zeros: dict[int, Buffer] = {}

    def buffer(self, size_bytes: int) -> Buffer:
        buffer = self.card.allocate(size_bytes)
        self._stack.callback(buffer.close)
        return buffer

    def zeros(self, size_bytes: int) -> View:
        """Card memory that stays zero, for inputs that must be bound and mean nothing."""
        if size_bytes not in self._zeros:
            self._zeros[size_bytes] = self.buffer(size_bytes)
        return self._zeros[size_bytes].view()

    def close(self) -> None:
        self._zeros.clear()
        self._stack.close()


class KvCache:
    """Per layer one K and one V buffer of ``context`` rows, zero-filled and never moved.

    All shape groups look at the same rows: one with less capacity is bound to the first of them.
    """

    def __init__(self, space: Workspace, geometry: Geometry) -> None:
        self.row_bytes = tuple(layer.row_bytes for layer in geometry.layers)
        rows = geometry.context
        self.keys = tuple(space.buffer(rows * size) for size in self.row_bytes)
        self.values = tuple(space.buffer(rows * size) for size in self.row_bytes)

    @property
    def size_bytes(self) -> int:
        """Card memory of all layers."""
        return sum(buffer.size_bytes for buffer in (*self.keys, *self.values))

    def history(self, layer: int, rows: int) -> tuple[View, View]:
        """The first ``rows`` rows of K and of V."""
        size_bytes = rows * self.row_bytes[layer]
        return self.keys[layer].view(0, size_bytes), self.values[layer].view(0, size_bytes)

    def row(self, layer: int, position: int) -> tuple[View, View]:
        """The row of K and of V that belongs to ``position``."""
        size_bytes = self.row_bytes[layer]
        at = position * size_bytes
        return self.keys[layer].view(at, size_bytes), self.values[layer].view(at, size_bytes)

    def store(self, layer: int, position: int, keys: View, values: View) -> None:
        """Copy rows on the card to ``position`` and after."""
        at = position * self.row_bytes[layer]
        self.keys[layer].copy_from(keys, at)
        self.values[layer].copy_from(values, at)

    def copy_rows(self, source: KvCache, rows: int) -> None:
        """Copy the first ``rows`` rows of all layers on the card from another cache of the same network."""
        if rows:
            for layer in range(len(self.keys)):
                self.store(layer, 0, *source.history(layer, rows))


def open_embedding(path: Path, hidden: int) -> NDArray[np.uint16]:
    """The table as bf16 bits ``uint16[vocab, hidden]``, memory-mapped: only rows in use take memory."""
    return np.memmap(path, np.uint16, "r").reshape(-1, hidden)


def names(group: ShapeGroup) -> dict[str, str]:
    """Plain tensor names to the names they have in ``group``, which may end in its index."""
    tensors = [spec.name for spec in (*group.inputs, *group.outputs)]
    return {name.removesuffix(f"_{group.index}") if group.index else name: name for name in tensors}
