"""Keeping the published catalog true: scanned at start, and again when the model directories changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import redis

from config.settings import Settings
from hardware.card import CardInfo
from models.catalog import DEMO_PACKAGES
from models.need import NEEDS
from tasks import board, keys

log = logging.getLogger("hearth.monitor")

MIB = 1 << 20
_DEPTH = 3
"""How deep below a model directory files are looked at: package, its parts, their parts."""

Signature = frozenset[tuple[str, int, int]]


class CatalogWatch:
    """Publishes what ``scan`` finds, without expiry."""

    def __init__(
        self, client: redis.Redis, settings: Settings, scan: Callable[[Settings], board.Catalog]
    ) -> None:
        self._client = client
        self._settings = settings
        self._scan = scan
        self._published: Signature | None = None
        self._seen: Signature | None = None

    def look(self) -> bool:
        """Scan and publish if need be. Returns whether it did. Raises redis.RedisError.

        A directory that is being copied into changes from look to look: it is scanned when it has come to
        rest, that is when two looks agree. The first look of all scans at once.
        """
        needs = self._settings.data_dir / NEEDS  # a load has measured what a package takes
        now = signature([self._settings.packages_dir, DEMO_PACKAGES], [needs])
        at_rest = self._seen is None or now == self._seen
        self._seen = now
        if (now == self._published and self._client.exists(keys.CATALOG)) or not at_rest:
            return False
        catalog = self._scan(self._settings)
        self._client.set(keys.CATALOG, board.encode(catalog))
        self._published = now
        usable = [model.id for model in catalog.models if model.problem is None]
        log.info("catalog: %s", ", ".join(usable) or "no model can be used")
        for model in catalog.models:
            if model.problem is not None:
                log.warning("catalog: %s cannot be used: %s", model.id, model.problem)
        return True


def fitting(catalog: board.Catalog, cards: Sequence[CardInfo], margin_mib: int) -> board.Catalog:
    """The catalog, with a word at every model that no card could ever hold: its jobs are refused at once."""
    rooms = [card.memory_bytes - (0 if card.is_virtual else margin_mib * MIB) for card in cards]
    return replace(catalog, models=tuple(_judged(model, max(rooms, default=0)) for model in catalog.models))


def _judged(model: board.Model, room_bytes: int) -> board.Model:
    need_bytes = model.needs_bytes
    if model.problem is not None or need_bytes is None or not 0 < room_bytes < need_bytes:
        return model
    needs, room = (f"{size / MIB:,.0f} MiB" for size in (need_bytes, room_bytes))
    return replace(
        model,
        problem=f"it needs {needs} of card memory and no card here has more than {room} for it; "
        "take a smaller one, or one quantised to fewer bits",
    )


def signature(places: Sequence[Path], files: Sequence[Path] = ()) -> Signature:
    """What can be seen of ``files`` and those below ``places`` unopened: path, time of change, size.

    Hidden names are no part of a package: what is on its way here, or on its way out, has one.
    """
    stats = [(str(path), path.stat()) for path in files if path.is_file()]
    alone = ((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)
    return frozenset([*alone, *(entry for place in places for entry in _entries(place, _DEPTH))])


def _entries(place: Path, depth: int) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(place) as found:
            children = list(found)
    except OSError:
        return
    for child in children:
        if child.name.startswith("."):
            continue
        try:
            stat = child.stat()
            is_directory = child.is_dir()
        except OSError:
            continue
        yield child.path, stat.st_mtime_ns, stat.st_size
        if is_directory and depth > 1:
            yield from _entries(Path(child.path), depth - 1)
