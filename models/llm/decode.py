"""One token through the card: three small writes, one list of steps, one row of logits back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.card import Array, Buffer, Card, Graph, Step, View
from models.llm.geometry import DecodeGroup, Geometry
from models.llm.memory import BLOCKED, VISIBLE, KvCache, Workspace, names

STEP_LIMIT_S = 30.0
"""A token that takes this long is a hang; the slowest model known on this card takes 0.3 s."""

_ALIGNED = 2048
"""A real card has been seen to write rows in place at multiples of this, and at nothing less."""


class Decoder:
    """The decode groups of all layers and the last graph, bound once.

    ``cache`` may be set to another one of the same network: a group is bound to it when it runs next.
    ``writes_rows``: K/V rows are written in place, else copied on the card when the layers have run.

    Layer ``i`` reads ``hidden[i % 2]`` and writes ``hidden[(i + 1) % 2]``, so hidden rows pass from layer to
    layer without moving. Mask and position are written once per token, into buffers that all layers share.
    """

    def __init__(
        self,
        space: Workspace,
        layers: Sequence[Graph],
        post: Graph,
        geometry: Geometry,
        cache: KvCache,
        embedding: NDArray[np.uint16],
    ) -> None:
        self._card: Card = space.card
        self.cache = cache
        self._embedding = embedding
        self._count = len(layers)
        self.hidden = (space.buffer(geometry.hidden * 2), space.buffer(geometry.hidden * 2))
        self._indices = space.buffer(4 * geometry.layers[0].index_rows)
        self._index_row = np.zeros(geometry.layers[0].index_rows, np.uint32)
        self.writes_rows = False
        self._new = [(space.buffer(size), space.buffer(size)) for size in cache.row_bytes]
        self._groups = [
            _Bound(group, space.buffer(2 * (group.capacity + 1)), cache) for group in geometry.decode
        ]
        for bound in self._groups:
            bound.steps = [self._bind_layer(layer, graph, bound) for layer, graph in enumerate(layers)]
        self._logits = space.buffer(geometry.post.output.size_bytes)
        self._post = [self._bind_post(space, post, geometry)]
        for bound in self._groups:
            bound.whole = [*bound.steps, *self._post]
        is_bf16 = geometry.post.output.dtype == "bf16"
        self._row: Array = np.empty(geometry.vocab, np.uint16 if is_bf16 else np.float32)

    def forward(self, token: int, position: int) -> Array:
        """Run ``token`` at ``position``; its K/V rows are then in the cache.

        Returns the logits of what follows: bf16 bits ``uint16[vocab]``, or ``float32[vocab]``, in memory that
        the next call overwrites.
        """
        self._run(token, position, wants_logits=True)
        return self._read_logits()

    def remember(self, token: int, position: int) -> None:
        """Like ``forward``, for a token whose successor is known: the last graph is left out."""
        self._run(token, position, wants_logits=False)

    def logits_of(self, row: View) -> Array:
        """The logits that follow the hidden ``row``, which is copied on the card."""
        self.hidden[self._count % 2].copy_from(row)
        self._card.execute(self._post, timeout_s=STEP_LIMIT_S)
        return self._read_logits()

    def run_layer(
        self, layer: int, token: int, position: int, *, in_place: bool
    ) -> tuple[bytes, bytes, bytes]:
        """One layer alone, fed with the embedding of ``token``: the K and V row it made, and its hidden row.

        For probes: with ``in_place`` the rows are read from the cache, else the cache is not written.
        """
        bound = self._ready(position)
        self.hidden[layer % 2].write(self._embedding[token])
        self._tell_position(bound, position)
        step = bound.steps[layer]
        self._aim_at_scratch(bound, layer, step)
        made = tuple(buffer.view() for buffer in self._new[layer])
        if in_place:
            made = self.cache.row(layer, position)
            step.rebind(bound.called["K_cache_out"], made[0])
            step.rebind(bound.called["V_cache_out"], made[1])
        bound.is_aimed = True
        self._card.execute([step], timeout_s=STEP_LIMIT_S)
        made = (*made, self.hidden[(layer + 1) % 2].view())
        keys, values, hidden = (view.buffer.read(view.offset_bytes, view.size_bytes) for view in made)
        return keys, values, hidden

    def _ready(self, position: int) -> _Bound:
        """The smallest group with room for ``position``, bound to the cache in use."""
        bound = next(each for each in self._groups if position < each.group.capacity)
        if bound.cache is not self.cache:
            self._turn_to(bound, self.cache)
        return bound

    def _tell_position(self, bound: _Bound, position: int) -> None:
        self._index_row.fill(position)
        self._indices.write(self._index_row)
        bound.mask.write(bound.visible(position))

    def _run(self, token: int, position: int, *, wants_logits: bool) -> None:
        bound = self._ready(position)
        self.hidden[0].write(self._embedding[token])
        self._tell_position(bound, position)
        if self.writes_rows:
            self._aim(bound, position)
        elif bound.is_aimed:
            self._turn_to(bound, self.cache)
        self._card.execute(bound.whole if wants_logits else bound.steps, timeout_s=STEP_LIMIT_S)
        if not self.writes_rows:
            for layer, (keys, values) in enumerate(self._new):
                self.cache.store(layer, position, keys.view(), values.view())

    def _read_logits(self) -> Array:
        self._logits.read_into(self._row)
        return self._row

    def may_write_rows(self) -> bool:
        """Whether the rows of this model stand where this card can write them."""
        return self._card.info.is_virtual or all(size % _ALIGNED == 0 for size in self.cache.row_bytes)

    def _turn_to(self, bound: _Bound, cache: KvCache) -> None:
        """Bind the group to another cache. Rows first: they may stand in one that is gone."""
        for layer, step in enumerate(bound.steps):
            self._aim_at_scratch(bound, layer, step)
            keys, values = cache.history(layer, bound.group.capacity)
            step.rebind(bound.called["K_cache"], keys)
            step.rebind(bound.called["V_cache"], values)
        bound.cache = cache
        bound.is_aimed = False

    def _aim_at_scratch(self, bound: _Bound, layer: int, step: Step) -> None:
        keys, values = self._new[layer]
        step.rebind(bound.called["K_cache_out"], keys.view())
        step.rebind(bound.called["V_cache_out"], values.view())

    def _aim(self, bound: _Bound, position: int) -> None:
        """Bind every layer's new K/V row to its place in the cache."""
        keys_name, values_name = bound.called["K_cache_out"], bound.called["V_cache_out"]
        bound.is_aimed = True
        for layer, step in enumerate(bound.steps):
            keys, values = self.cache.row(layer, position)
            step.rebind(keys_name, keys)
            step.rebind(values_name, values)

    def _bind_layer(self, layer: int, graph: Graph, bound: _Bound) -> Step:
        called = names(graph.groups[bound.group.index])
        bound.called = called
        keys, values = self.cache.history(layer, bound.group.capacity)
        new_keys, new_values = self._new[layer]
        return graph.bind(
            bound.group.index,
            {
                called["K_cache"]: keys,
                called["V_cache"]: values,
                called["indices"]: self._indices.view(),
                called["input"]: self.hidden[layer % 2].view(),
                called["mask"]: bound.mask.view(),
            },
            {
                called["K_cache_out"]: new_keys.view(),
                called["V_cache_out"]: new_values.view(),
                called["output"]: self.hidden[(layer + 1) % 2].view(),
            },
        )

    def _bind_post(self, space: Workspace, post: Graph, geometry: Geometry) -> Step:
        outputs = {geometry.post.output.name: self._logits.view()}
        for spec in post.groups[0].outputs:
            if spec.name not in outputs:  # everything must be bound, also what nobody reads
                outputs[spec.name] = space.buffer(spec.size_bytes).view()
        return post.bind(0, {geometry.post.input_name: self.hidden[self._count % 2].view()}, outputs)


class _Bound:
    """One decode group: its mask on the card and on the host, a step for each layer, and the whole token."""

    def __init__(self, group: DecodeGroup, mask: Buffer, cache: KvCache) -> None:
        self.group = group
        self.mask = mask
        self.steps: list[Step] = []
        self.whole: list[Step] = []
        self.cache = cache
        self.called: dict[str, str] = {}
        self.is_aimed = False
        self._bits = np.full(group.capacity + 1, BLOCKED, np.uint16)
        self._bits[-1] = VISIBLE  # the token itself, which attention appends behind the cache

    def visible(self, position: int) -> NDArray[np.uint16]:
        """The mask for ``position``: every earlier row, and the token itself."""
        self._bits[:position] = VISIBLE
        self._bits[position:-1] = BLOCKED
        return self._bits
