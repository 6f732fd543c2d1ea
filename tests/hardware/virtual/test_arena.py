from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.errors import OutOfCardMemory
from hardware.virtual.arena import BASE_ADDRESS, PAGE_BYTES, Arena
from tests.hardware.examples import patient


def test_the_first_address_is_the_cards() -> None:
    assert Arena(1 << 20).take(1) == 0x148000000


def test_the_first_gap_that_is_large_enough_is_used() -> None:
    arena = Arena(1 << 20)
    first, _second, third, _fourth = (arena.take(size * PAGE_BYTES) for size in (1, 1, 3, 1))
    arena.give_back(first)
    arena.give_back(third)
    assert arena.take(2 * PAGE_BYTES) == third
    assert arena.take(PAGE_BYTES) == first


def test_what_does_not_fit_takes_nothing_and_says_what_is_free() -> None:
    arena = Arena(4 * PAGE_BYTES)
    arena.take(PAGE_BYTES)
    with pytest.raises(OutOfCardMemory, match=f"{3 * PAGE_BYTES} of {4 * PAGE_BYTES} are free"):
        arena.take(3 * PAGE_BYTES + 1)
    assert arena.free_bytes == 3 * PAGE_BYTES


def test_memory_in_pieces_does_not_hold_what_is_larger_than_a_piece() -> None:
    arena = Arena(4 * PAGE_BYTES)
    addresses = [arena.take(PAGE_BYTES) for _ in range(4)]
    arena.give_back(addresses[0])
    arena.give_back(addresses[2])
    with pytest.raises(OutOfCardMemory, match=f"{PAGE_BYTES} of them in one piece"):
        arena.take(2 * PAGE_BYTES)


def test_nothing_comes_back_twice() -> None:
    arena = Arena(1 << 20)
    address = arena.take(100)
    arena.give_back(address)
    with pytest.raises(KeyError):
        arena.give_back(address)


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_is_no_allocation(size: int) -> None:
    with pytest.raises(ValueError, match="cannot be allocated"):
        Arena(1 << 20).take(size)


# A number from 0 on takes so many bytes; a negative one gives back one of those that are out.
@patient
@given(
    st.integers(0, 64 * PAGE_BYTES),
    st.lists(st.one_of(st.integers(1, 20 * PAGE_BYTES), st.integers(-50, -1)), max_size=60),
)
def test_ranges_never_overlap_and_the_sums_are_right(size: int, acts: list[int]) -> None:
    arena = Arena(size)
    out: dict[int, int] = {}
    for act in acts:
        if act < 0:
            if out:
                address = sorted(out)[act % len(out)]
                arena.give_back(address)
                del out[address]
        else:
            needed = -(-act // PAGE_BYTES) * PAGE_BYTES
            fits = any(free >= needed for _, free in arena.free_ranges())
            try:
                out[arena.take(act)] = needed
            except OutOfCardMemory:
                assert not fits
            else:
                assert fits
        _check(arena, out)
    for address in list(out):
        arena.give_back(address)
    assert arena.free_ranges() == ([(BASE_ADDRESS, arena.size_bytes)] if arena.size_bytes else [])


def _check(arena: Arena, out: dict[int, int]) -> None:
    pieces = sorted([*out.items(), *arena.free_ranges()])
    assert sum(size for _, size in pieces) == arena.size_bytes
    at = BASE_ADDRESS
    for address, size in pieces:
        assert address == at
        assert address % PAGE_BYTES == 0
        at += size
    assert arena.used_bytes == sum(out.values())
    # Two free ranges never touch: what comes back is merged at once.
    free = arena.free_ranges()
    assert all(a + size < b for (a, size), (b, _) in pairwise(free))
