"""A package's graphs on a card, with their cache and buffers: put there file by file, or not at all."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from hardware.card import Card, Graph, KvWrite, Prefill
from models.llm.decode import Decoder
from models.llm.geometry import Geometry, PrefillGroup, combine, read_layer, read_post
from models.llm.memory import KvCache, Workspace, open_embedding
from models.llm.package import LlmPackage, check_embedding
from models.llm.prefill import Prefiller

Progress = tuple[int, int]
"""Files on the card, and files in all."""


class Network:
    """Everything of one model that lives on one card. ``prefill_groups`` are those that may be used."""

    prefill_groups: tuple[PrefillGroup, ...] = ()

    def __init__(self, card: Card, layers: list[Graph], post: Graph, embedding: Path) -> None:
        self.card = card
        self.geometry: Geometry = combine(
            [read_layer(layer.groups) for layer in layers], read_post(post.groups)
        )
        self.embedding_rows = check_embedding(embedding, self.geometry.hidden, self.geometry.vocab)
        self._graphs = [*layers, post]
        self._space = Workspace(card)
        try:
            table = open_embedding(embedding, self.geometry.hidden)
            self.cache = KvCache(self._space, self.geometry)
            self.decoder = Decoder(self._space, layers, post, self.geometry, self.cache, table)
            self.prefill = Prefiller(self._space, layers, self.geometry, self.cache, table)
            self.drive(card.traits.kv_write, card.traits.prefill)
        except BaseException:
            self._space.close()
            raise

    @classmethod
    def load(cls, card: Card, package: LlmPackage) -> Generator[Progress, None, Network]:
        """Put the graphs on the card, yielding progress after each file; returns the network.

        Closing the generator half-way gives everything back, and so does any error.

        Raises:
            PackageProblem: the graphs are not one model, or not one we can run.
            HardwareError: the card refuses a file, or is full.
        """
        files = (*package.layers, package.post)
        order = (package.post, *package.layers) if card.traits.post_first else files
        with ExitStack() as undo:
            graphs: dict[Path, Graph] = {}
            for done, path in enumerate(order, 1):
                graph = graphs[path] = card.load(path)
                undo.callback(graph.close)
                yield done, len(files)
            layers = [graphs[path] for path in package.layers]
            network = cls(card, layers, graphs[package.post], package.embedding)
            undo.pop_all()
            return network

    def drive(self, kv_write: KvWrite, prefill: Prefill) -> None:
        """How rows are written, where the model's widths allow it, and how prompts go through."""
        self.decoder.writes_rows = kv_write is KvWrite.ROW and self.decoder.may_write_rows()
        self.prefill_groups = self.prefill.groups if prefill is Prefill.CHUNK else ()

    def switch(self, cache: KvCache) -> None:
        """Read and write another cache from now on. Costs nothing until a group runs."""
        self.cache = self.decoder.cache = self.prefill.cache = cache

    def close(self) -> None:
        """Give back buffers, then graphs, last one first. Closing twice is harmless."""
        self._space.close()
        for graph in reversed(self._graphs):
            graph.close()
