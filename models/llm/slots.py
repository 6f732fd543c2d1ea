"""Which conversations the card is believed to remember, as token ids: pure book-keeping, no card in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REPHRASED = 8
"""Tokens at the end of a prompt that a template may write otherwise once the answer is history.

Qwen3's template ends a prompt without thinking in ``<think>\\n\\n</think>\\n\\n``, four tokens, and leaves
them out when it shows the same turn again.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation goes: ``slot``, whose first ``kept`` rows are right.

    With ``source`` they are in that slot instead, and are to be copied first.
    """

    slot: int
    kept: int
    source: int | None = None


@dataclass(slots=True)
class _Slot:
    ids: list[int] = field(default_factory=list)
    asked: int = 0
    used_at: int = 0


class Slots:
    """Slots of rows, each believed to hold a list of token ids, row by row.

    What is believed is always a prefix of what was computed: ``truncate`` before rows are written, ``extend``
    when they are.
    """

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._now = 0

    def __len__(self) -> int:
        return len(self._slots)

    def add(self) -> int:
        """One more slot, which holds nothing; its number."""
        self._slots.append(_Slot())
        return len(self._slots) - 1

    def keep_only(self, slot: int) -> None:
        """Forget all slots but one, which then is number 0."""
        self._slots = [self._slots[slot]]

    def ids(self, slot: int) -> Sequence[int]:
        """What ``slot`` holds."""
        return self._slots[slot].ids

    def wants_another(self, ids: Sequence[int]) -> bool:
        """Whether ``ids`` would be better off in a slot that is not there yet."""
        best, kept = self._best(ids)
        return not self._continues(best, kept) and all(slot.ids for slot in self._slots)

    def take(self, ids: Sequence[int], asked: int) -> Place:
        """The place for ``ids``, of which at least the last is always computed anew; ``asked`` are prompt.

        A conversation that goes on, or is asked again, keeps its slot. Another one that merely begins alike
        gets a slot of its own, a free one or else the one not used for longest, and a copy of what they
        share.
        """
        best, kept = self._best(ids)
        target = best if self._continues(best, kept) else self._free_or_oldest()
        slot = self._slots[target]
        self._now += 1
        slot.used_at = self._now
        slot.asked = asked
        if target == best or not kept:
            return Place(target, kept)
        return Place(target, kept, source=best)

    def truncate(self, slot: int, count: int) -> None:
        """From row ``count`` on, anything may stand in ``slot``."""
        del self._slots[slot].ids[count:]

    def extend(self, slot: int, ids: Sequence[int]) -> None:
        """``ids`` stand in the rows that follow."""
        self._slots[slot].ids.extend(ids)

    def _best(self, ids: Sequence[int]) -> tuple[int, int]:
        """The slot that shares most with ``ids``, and how much; of equals, the one used last."""
        shared = [min(common(slot.ids, ids), len(ids) - 1) for slot in self._slots]
        best = max(range(len(shared)), key=lambda at: (shared[at], self._slots[at].used_at))
        return best, shared[best]

    def _continues(self, at: int, kept: int) -> bool:
        slot = self._slots[at]
        return kept >= len(slot.ids) or 0 < slot.asked - REPHRASED <= kept

    def _free_or_oldest(self) -> int:
        return min(
            range(len(self._slots)), key=lambda at: (bool(self._slots[at].ids), self._slots[at].used_at)
        )


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two conversations begin with alike."""
    for at, (mine, other) in enumerate(zip(first, second, strict=False)):
        if mine != other:
            return at
    return min(len(first), len(second))
