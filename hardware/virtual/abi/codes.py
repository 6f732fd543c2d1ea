"""The error codes that the simulated runtime answers with, as the vendor's headers number them."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """Who complains: byte 1 of a code."""

    DEVICE = 0x01
    CONTEXT = 0x02
    STREAM = 0x03
    MEMORY = 0x05
    ENGINE = 0x07


FAIL, NULL_POINTER, ILLEGAL_PARAM, UNSUPPORTED, BUSY, NO_MEMORY = 0x01, 0x02, 0x03, 0x04, 0x06, 0x07
OPEN, EXECUTE_FAIL = 0x0B, 0x0C

NO_CONNECT, INVALID_ID, NO_ACTIVE_DEVICE, REBOOT = 0x81, 0x84, 0x85, 0x87  # of DEVICE
NO_BIND_CONTEXT = 0x84  # of CONTEXT
SYNC_TIMEOUT = 0x83  # of STREAM
NOT_DEVICE_MEMORY = 0x81  # of MEMORY
INVALID_INDEX = 0x81  # of ENGINE


class Fail(Exception):
    """A call fails with the code of ``part`` and ``error``."""

    def __init__(self, part: Part, error: int, text: str) -> None:
        super().__init__(text)
        # As the C type has it: an int32 whose highest bit is set.
        self.code = (0x8030_0000 | part << 8 | error) - (1 << 32)


class Misuse(Fail):
    """The caller is wrong: what the mode ``silent`` answers with success and nothing done."""
