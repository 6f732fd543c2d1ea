"""The graphs of a picture model on a card, each file once however many sizes use it."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from hardware.card import Card, Graph
from models.diffusion.geometry import Geometry, combine, read_decoder, read_encoder, read_text, read_unet
from models.diffusion.package import Variant

Progress = tuple[int, int]
"""Files on the card, and files in all."""


@dataclass(frozen=True, slots=True)
class GraphSet:
    """What draws pictures of one size. ``encoder`` is None when it only draws from text."""

    text: Graph
    unet: Graph
    decoder: Graph
    encoder: Graph | None

    def geometry(self) -> Geometry:
        """As the graphs themselves say. Raises PackageProblem when they are not of one model."""
        return combine(
            read_text(self.text.groups),
            read_unet(self.unet.groups),
            read_decoder(self.decoder.groups),
            read_encoder(self.encoder.groups) if self.encoder else None,
        )


class CardGraphs:
    """Graph files of one package on one card. Closing twice is harmless."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._graphs: dict[Path, Graph] = {}

    def load(self, variant: Variant) -> Generator[Progress, None, GraphSet]:
        """Put what ``variant`` lacks on the card, yielding after each file.

        An error, or closing the generator half-way, takes back what this call has loaded.

        Raises:
            HardwareError: the card refuses a file, or is full.
        """
        new = [path for path in variant.graphs if path not in self._graphs]
        loaded: list[Path] = []
        try:
            for done, path in enumerate(new, 1):
                self._graphs[path] = self._card.load(path)
                loaded.append(path)
                yield done, len(new)
        except BaseException:
            self._drop(loaded)
            raise
        encoder = self._graphs[variant.vae_encoder] if variant.vae_encoder else None
        return GraphSet(
            self._graphs[variant.text_encoder],
            self._graphs[variant.unet],
            self._graphs[variant.vae_decoder],
            encoder,
        )

    def keep_only(self, paths: Collection[Path]) -> None:
        """Take everything else off the card."""
        self._drop([path for path in self._graphs if path not in paths])

    def close(self) -> None:
        self.keep_only(())

    def _drop(self, paths: list[Path]) -> None:
        for path in reversed(paths):
            self._graphs.pop(path).close()
