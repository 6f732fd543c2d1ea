"""Tokens into the cache, a chunk at a time, behind what is there already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.card import Buffer, Card, Graph, Step, View
from models.llm.decode import STEP_LIMIT_S
from models.llm.geometry import Geometry, PrefillGroup
from models.llm.memory import BLOCKED, VISIBLE, KvCache, Workspace, names


class Prefiller:
    """The prefill groups of all layers, bound once. Layers share every buffer but the cache.

    ``cache`` may be set to another one of the same network: a group is bound to it when it runs next.
    """

    def __init__(
        self,
        space: Workspace,
        layers: Sequence[Graph],
        geometry: Geometry,
        cache: KvCache,
        embedding: NDArray[np.uint16],
    ) -> None:
        self._card: Card = space.card
        self.cache = cache
        self._embedding = embedding
        self._hidden_bytes = geometry.hidden * 2
        self.groups = geometry.prefill
        sizes = {group.chunk: _Shared(space, geometry, group.chunk) for group in self.groups}
        self._bound = {
            group.index: _Bound(space, layers, group, sizes[group.chunk], cache) for group in self.groups
        }

    def run(self, tokens: Sequence[int], start: int, group: PrefillGroup) -> View:
        """Compute ``tokens``, at most a chunk, which stand at ``start``, and keep their K/V.

        Returns the hidden row of the last one, which the next call overwrites.
        """
        bound = self._bound[group.index]
        bound.turn_to(self.cache)
        shared = bound.shared
        shared.write_tokens(self._embedding, tokens, start)
        bound.write_mask(start, len(tokens))
        for layer, step in enumerate(bound.steps):
            self._card.execute([step], timeout_s=STEP_LIMIT_S)
            size_bytes = len(tokens) * self.cache.row_bytes[layer]
            keys, values = shared.new(layer)
            self.cache.store(layer, start, keys.view(0, size_bytes), values.view(0, size_bytes))
        last = (len(tokens) - 1) * self._hidden_bytes
        return shared.hidden[len(bound.steps) % 2].view(last, self._hidden_bytes)


class _Shared:
    """Buffers of one chunk size, shared by its groups and layers; each has exactly its tensor's size."""

    def __init__(self, space: Workspace, geometry: Geometry, chunk: int) -> None:
        layer = geometry.layers[0]
        self.hidden = tuple(space.buffer(chunk * geometry.hidden * 2) for _ in range(2))
        self.indices = space.buffer(chunk * layer.index_rows * 4)
        self._index_rows = np.zeros((layer.index_rows, chunk), np.uint32)
        self._rows = np.zeros((chunk, geometry.hidden), np.uint16)
        self._widths = [each.row_bytes for each in geometry.layers]
        self._new = {
            size: (space.buffer(chunk * size), space.buffer(chunk * size))
            for size in sorted(set(self._widths))
        }

    def new(self, layer: int) -> tuple[Buffer, Buffer]:
        """Where ``layer`` leaves the K and V it made."""
        return self._new[self._widths[layer]]

    def write_tokens(self, embedding: NDArray[np.uint16], tokens: Sequence[int], start: int) -> None:
        """Embeddings and positions; what is left of the chunk is zero, and nobody looks at it."""
        count = len(tokens)
        self._rows[:count] = embedding[list(tokens)]
        self._rows[count:] = 0
        self._index_rows[:, :count] = np.arange(start, start + count, dtype=np.uint32)
        self._index_rows[:, count:] = 0
        self.hidden[0].write(self._rows)
        self.indices.write(self._index_rows)


class _Bound:
    """One prefill group: its mask, and a step for each layer."""

    def __init__(
        self, space: Workspace, layers: Sequence[Graph], group: PrefillGroup, shared: _Shared, cache: KvCache
    ) -> None:
        self.shared = shared
        self._group = group
        self._cache = cache
        self._called: dict[str, str] = {}
        self._bits = np.full((group.chunk, group.history + group.chunk), BLOCKED, np.uint16)
        self._mask = space.buffer(self._bits.nbytes)
        self._triangle = np.where(np.tri(group.chunk, dtype=bool), VISIBLE, BLOCKED)
        self.steps = [self._bind(space, layer, graph, cache) for layer, graph in enumerate(layers)]

    def turn_to(self, cache: KvCache) -> None:
        """Look at another cache; nothing to do for a group without history."""
        if cache is self._cache or not self._group.history:
            return
        for layer, step in enumerate(self.steps):
            keys, values = cache.history(layer, self._group.history)
            step.rebind(self._called["K_cache"], keys)
            step.rebind(self._called["V_cache"], values)
        self._cache = cache

    def write_mask(self, start: int, count: int) -> None:
        """Row r sees the history and the chunk up to itself. The chunk always stands in the last columns."""
        self._bits.fill(BLOCKED)
        self._bits[:count, :start] = VISIBLE
        self._bits[:count, self._group.history :] = self._triangle[:count]
        self._mask.write(self._bits)

    def _bind(self, space: Workspace, layer: int, graph: Graph, cache: KvCache) -> Step:
        group = graph.groups[self._group.index]
        called = self._called = names(group)
        if self._group.history:
            keys, values = cache.history(layer, self._group.history)
        else:
            # A dummy of the graph's own shape: zeros, and all of them masked away by not being there.
            keys = space.zeros(group.input("K_cache").size_bytes)
            values = space.zeros(group.input("V_cache").size_bytes)
        new_keys, new_values = self.shared.new(layer)
        return graph.bind(
            group.index,
            {
                called["K_cache"]: keys,
                called["V_cache"]: values,
                called["indices"]: self.shared.indices.view(),
                called["input"]: self.shared.hidden[layer % 2].view(),
                called["mask"]: self._mask.view(),
            },
            {
                called["K_cache_out"]: new_keys.view(),
                called["V_cache_out"]: new_values.view(),
                called["output"]: self.shared.hidden[(layer + 1) % 2].view(),
            },
        )
