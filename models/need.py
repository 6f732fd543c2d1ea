"""How much card memory a package needs: as measured when it was on this card, else estimated from its files.

Nothing here asks the card: its runtime can only tell by loading the model (``axclrtEngineGetUsage``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.llm.geometry import Geometry, LayerGeometry
from models.remembered import fingerprint, recall, remember

log = logging.getLogger("hearth.models")

NEEDS = "needs.json"
"""Under the data directory: what packages took when they were loaded."""

GRAPH_FACTOR = 1.05
"""A graph takes a little more than its file: the runtime's own tables and the alignment of its parts."""

USUAL_KV_WIDTH, USUAL_CONTEXT = 1024, 2559
"""Of the Qwen3 packages for this card, 0.6B to 4B; others are mostly smaller."""
UNREAD_SHARED_BYTES = 16 << 20
"""Hidden rows, masks and logits: 5 MB with Qwen3-4B and a ladder of chunks of 128."""

_PAGE_BYTES = 4096
"""Card memory is given in whole pages."""
_BF16_BYTES, _F32_BYTES = 2, 4


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of card memory, without any margin. ``is_measured``: a load has shown it, with these files."""

    size_bytes: int
    is_measured: bool

    @property
    def basis(self) -> Literal["estimated", "measured"]:
        return "measured" if self.is_measured else "estimated"


def need(graphs: Sequence[Path], beside_bytes: int, memory: Path | None, firmware: str | None = None) -> Need:
    """What ``graphs`` and ``beside_bytes`` of buffers take on the card. Raises OSError.

    ``memory`` is the file that remembers measurements. One made under ``firmware`` counts; when that is None
    the largest made under any.
    """
    measured = _measured(graphs, memory, firmware) if memory else None
    if measured is not None:
        return Need(measured, is_measured=True)
    return Need(estimate((path.stat().st_size for path in graphs), beside_bytes), is_measured=False)


def estimate(graph_bytes: Iterable[int], beside_bytes: int = 0) -> int:
    """Bytes that graphs of these file sizes take, with ``beside_bytes`` for caches and buffers."""
    return sum(_pages(size * GRAPH_FACTOR) for size in graph_bytes) + beside_bytes


def remember_need(graphs: Sequence[Path], firmware: str, size_bytes: int, memory: Path) -> None:
    """Keep what a load took. A disk that refuses is only logged: the estimate goes on to serve."""
    try:
        key = fingerprint(graphs)
        remember(memory, key, {**_entry(memory, key), firmware: size_bytes})
    except OSError as error:
        log.warning("cannot remember what %s needs: %s", graphs[0].parent.name, error)


def beside_graphs(geometry: Geometry) -> int:
    """Bytes a language model keeps beside its graphs: K and V of one conversation, and what steps share."""
    rows = (geometry.context, 1)  # the cache, and the row that is on its way into it
    cache = sum(2 * _pages(layer.row_bytes * count) for layer in geometry.layers for count in rows)
    groups = sum(_group_bytes(geometry.layers[0], tokens, rows) for tokens, rows in _groups(geometry))
    return cache + groups + _pages(geometry.vocab * _F32_BYTES)


def beside_unread(layers: int, context: int | None, kv_width: int | None) -> int:
    """The same where only a card can read the graphs: as configuration files tell, else what is usual."""
    row_bytes = (kv_width or USUAL_KV_WIDTH) * _BF16_BYTES
    return 2 * layers * _pages(row_bytes * (context or USUAL_CONTEXT)) + UNREAD_SHARED_BYTES


def _groups(geometry: Geometry) -> list[tuple[int, int]]:
    """Tokens at once, and rows of history, of every shape group."""
    decode = [(1, group.capacity) for group in geometry.decode]
    return decode + [(group.chunk, group.history) for group in geometry.prefill]


def _group_bytes(layer: LayerGeometry, tokens: int, history: int) -> int:
    """Hidden rows in and out, new K and V, what stands in for them, indices, a mask over all rows."""
    widths = (layer.hidden, layer.hidden, layer.kv_width, layer.kv_width, layer.hidden, layer.index_rows * 2)
    return sum(_pages(tokens * width * _BF16_BYTES) for width in (*widths, history + tokens))


def _pages(size_bytes: float) -> int:
    return math.ceil(size_bytes / _PAGE_BYTES) * _PAGE_BYTES


def _measured(graphs: Sequence[Path], memory: Path, firmware: str | None) -> int | None:
    entry = _entry(memory, fingerprint(graphs))
    if firmware is not None:
        return entry.get(firmware)
    return max(entry.values(), default=None)


def _entry(memory: Path, key: str) -> dict[str, int]:
    entry = recall(memory).get(key)
    if not isinstance(entry, dict):
        return {}
    return {firmware: size for firmware, size in entry.items() if isinstance(size, int) and size > 0}
