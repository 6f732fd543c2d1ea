"""The conversations on the card: slots of K/V rows, as many as memory allows, and what each holds."""

from __future__ import annotations

from collections.abc import Sequence

from hardware.card import Card
from hardware.errors import OutOfCardMemory
from models.llm.memory import KvCache, Workspace
from models.llm.network import Network
from models.llm.slots import Slots

MIB = 1 << 20


class ConversationCache:
    """Gives a conversation the rows it shares with one that is still there.

    The first slot belongs to the network. Others are allocated when a conversation wants one, up to
    ``slots`` in all and only while ``reserve_bytes`` of the card stay free.
    """

    def __init__(self, network: Network, slots: int, reserve_bytes: int) -> None:
        self._network = network
        self._most = slots
        self._reserve_bytes = reserve_bytes
        self._slots = Slots()
        self._slots.add()
        self._caches = [network.cache]
        self._spaces: list[Workspace] = []
        self._current = 0

    @property
    def slots(self) -> int:
        """How many there are now."""
        return len(self._caches)

    @property
    def size_bytes(self) -> int:
        """Card memory of the slots beyond the first."""
        return (len(self._caches) - 1) * self._network.cache.size_bytes

    @property
    def length(self) -> int:
        """Rows of the current conversation that are believed to be right."""
        return len(self._slots.ids(self._current))

    def open(self, ids: Sequence[int], asked: int) -> int:
        """Make the rows of ``ids`` current, as far as any slot has them; how many that are, never all.

        The first ``asked`` ids are the prompt, others were told after it.
        """
        if self._slots.wants_another(ids) and len(self._caches) < self._most:
            self._grow()
        place = self._slots.take(ids, asked)
        # Belief first: whatever goes wrong from here on, nothing is believed that is not so.
        self._slots.truncate(place.slot, 0 if place.source is not None else place.kept)
        self._current = place.slot
        self._network.switch(self._caches[place.slot])
        if place.source is not None:
            self._caches[place.slot].copy_rows(self._caches[place.source], place.kept)
            self._slots.extend(place.slot, ids[: place.kept])
        return place.kept

    def wrote(self, ids: Sequence[int]) -> None:
        """Say that ``ids`` stand in the rows that follow those believed so far."""
        self._slots.extend(self._current, ids)

    def cut(self, length: int) -> None:
        """Believe no more than ``length`` rows of the current conversation."""
        self._slots.truncate(self._current, length)

    def forget(self) -> None:
        """Believe nothing any more."""
        for slot in range(len(self._slots)):
            self._slots.truncate(slot, 0)

    def trim(self) -> int:
        """Give every slot but the current one back to the card; how many bytes that were."""
        freed_bytes = self.size_bytes
        kept = self._caches[self._current]
        if self._current != 0:
            # The first slot's buffers are the network's own, so the conversation moves there.
            kept = self._caches[0]
            self._slots.truncate(0, 0)
            kept.copy_rows(self._caches[self._current], self.length)
        self._slots.keep_only(self._current)
        self._caches, self._current = [kept], 0
        self._network.switch(kept)
        self.close()
        return freed_bytes

    def close(self) -> None:
        """Give the slots beyond the first back. Closing twice is harmless."""
        while self._spaces:
            self._spaces.pop().close()

    def _grow(self) -> None:
        """One more slot, unless that takes the card below its reserve."""
        card: Card = self._network.card
        room_bytes = card.memory().free_bytes - self._network.cache.size_bytes
        if room_bytes < self._reserve_bytes:
            return
        space = Workspace(card)
        try:
            cache = KvCache(space, self._network.geometry)
        except OutOfCardMemory:
            space.close()  # there is room in all, but not in one piece
            return
        self._spaces.append(space)
        self._caches.append(cache)
        self._slots.add()
