"""What the runtime's codes become, and the words they come with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.axcl.codes import Doing, error_of, meaning
from hardware.errors import CardLost, CardTimeout, FeedMismatch, GraphRejected, HardwareError, OutOfCardMemory
from tests.hardware.examples import patient


@pytest.mark.parametrize(
    ("code", "doing", "kind", "words"),
    [
        (0x8030010B, Doing.OPENING, CardLost, "dkms autoinstall"),
        (0x80300181, Doing.OPENING, CardLost, "pciex1-compat-pi5"),
        (0x80300181, Doing.EXECUTING, CardLost, "device: no device connected"),
        (0x80300284, Doing.COPYING, CardLost, "context: the thread has no context"),
        (0x8030070C, Doing.EXECUTING, CardLost, "engine: its execution failed"),
        (0x8030050C, Doing.COPYING, CardLost, "memory"),
        (0x8030050C, Doing.ALLOCATING, OutOfCardMemory, "memory: its execution failed"),
        (0x80300507, Doing.ALLOCATING, OutOfCardMemory, "memory: no memory"),
        (0x8030070C, Doing.LOADING, GraphRejected, "0x8030070c"),
        (0x80300581, Doing.COPYING, FeedMismatch, "not an allocation of this device"),
        (0x80300703, Doing.EXECUTING, FeedMismatch, "an illegal parameter"),
        (0x80300781, Doing.BINDING, FeedMismatch, "no such tensor"),
        (0x80300383, Doing.EXECUTING, CardTimeout, "no answer in time"),
        (0x801D0001, Doing.EXECUTING, CardLost, "module 0x1d of the SDK on the card"),
    ],
)
def test_a_code_becomes_what_it_means_at_the_time(
    code: int, doing: Doing, kind: type[HardwareError], words: str
) -> None:
    for result in (code, code - (1 << 32)):  # C's int32 and the unsigned number
        error = error_of("axclrtX", result, doing)
        assert type(error) is kind
        assert words in str(error)
        assert f"axclrtX failed while {doing.value}: {code:#010x}" in str(error)


@patient
@given(st.integers(-(2**31), -1), st.sampled_from(Doing))
def test_every_code_becomes_an_error_with_words(result: int, doing: Doing) -> None:
    assert isinstance(error_of("f", result, doing), HardwareError)
    assert meaning(result & 0xFFFFFFFF)
