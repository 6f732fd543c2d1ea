"""Who owns which addresses of the card's memory: a first-fit allocator that keeps no bytes itself."""

from __future__ import annotations

from bisect import bisect_left

from hardware.errors import OutOfCardMemory

BASE_ADDRESS = 0x1_4800_0000
"""Where the CMM of an AX650N begins. Source: /proc/ax_proc/mem_cmm_info of the card (SDK V3.6.3)."""
PAGE_BYTES = 4096
"""The granularity of CMM blocks on the card, and the alignment of every address handed out."""


class Arena:
    """Address ranges of ``size_bytes`` bytes from ``BASE_ADDRESS`` on, handed out first-fit in whole pages.

    Free ranges never touch: what is given back is merged with its neighbours at once, so an arena whose last
    range came back is one free range again.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes - size_bytes % PAGE_BYTES
        self.free_bytes = self.size_bytes
        self._starts = [BASE_ADDRESS] if self.size_bytes else []
        self._sizes = [self.size_bytes] if self.size_bytes else []
        self._taken: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        return self.size_bytes - self.free_bytes

    def free_ranges(self) -> list[tuple[int, int]]:
        """(address, bytes) of every free range, by address."""
        return list(zip(self._starts, self._sizes, strict=True))

    def take(self, size_bytes: int) -> int:
        """The address of a range that holds ``size_bytes``. Raises OutOfCardMemory; nothing is taken then."""
        if size_bytes < 1:
            raise ValueError(f"{size_bytes} bytes cannot be allocated")
        needed = -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
        for at, size in enumerate(self._sizes):
            if size >= needed:
                return self._carve(at, needed)
        largest = max(self._sizes, default=0)
        raise OutOfCardMemory(
            f"{size_bytes} bytes do not fit: {self.free_bytes} of {self.size_bytes} are free, "
            f"{largest} of them in one piece"
        )

    def _carve(self, at: int, needed: int) -> int:
        address = self._starts[at]
        if self._sizes[at] == needed:
            del self._starts[at], self._sizes[at]
        else:
            self._starts[at] += needed
            self._sizes[at] -= needed
        self._taken[address] = needed
        self.free_bytes -= needed
        return address

    def give_back(self, address: int) -> None:
        """Return the range at ``address``; a KeyError if it was never taken or came back before."""
        size = self._taken.pop(address)
        self.free_bytes += size
        at = bisect_left(self._starts, address)
        if at < len(self._starts) and address + size == self._starts[at]:
            size += self._sizes[at]
            del self._starts[at], self._sizes[at]
        if at and self._starts[at - 1] + self._sizes[at - 1] == address:
            self._sizes[at - 1] += size
        else:
            self._starts.insert(at, address)
            self._sizes.insert(at, size)
