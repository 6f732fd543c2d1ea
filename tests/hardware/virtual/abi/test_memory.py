"""Memory and copies through the vendor's signatures."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.virtual.abi.options import Mode, Quirk, bus_id
from hardware.virtual.arena import BASE_ADDRESS
from hardware.virtual.state import CardState, Fault
from tests.axclsim import MIB, simulated, strict
from tests.hardware.virtual.abi.raw import DOWN, FAILED, NO_CONTEXT, NOT_DEVICE_MEMORY, UP, WITHIN, Raw


def test_addresses_are_the_devices_and_can_be_reckoned_with(raw: Raw) -> None:
    address = raw.malloc(10_000)
    assert address == BASE_ADDRESS
    assert raw.put(address + 100, b"hello") == 0
    assert raw("axclrtMemcpy", address + 200, address + 100, 5, WITHIN) == 0
    assert raw.get(address + 198, 9) == b"\xff\xffhello\xff\xff"
    assert raw("axclrtMemset", address, 0, 10_000) == 0
    assert raw.get(address, 10_000) == bytes(10_000)


def test_fresh_memory_is_dirty_again_after_it_was_given_back(raw: Raw) -> None:
    for _ in range(2):
        address = raw.malloc(8192)
        assert raw.get(address, 8192) == b"\xff" * 8192
        assert raw("axclrtMemset", address, 0, 8192) == 0
        assert raw("axclrtFree", address) == 0


@pytest.mark.parametrize(
    ("start", "size"),
    [(-1, 4), (0, 4097), (4000, 97), (1 << 33, 1)],
    ids=["before", "longer", "over", "else"],
)
def test_memory_that_is_not_allocated_is_told(raw: Raw, start: int, size: int) -> None:
    address = raw.malloc(4096)
    target = ctypes.create_string_buffer(8192)
    for way, arguments in ((UP, (address + start, target)), (DOWN, (target, address + start))):
        assert raw("axclrtMemcpy", *arguments, size, way) == NOT_DEVICE_MEMORY
    assert raw("axclrtMemset", address + start, 0, size) == NOT_DEVICE_MEMORY


def test_memory_is_freed_once(raw: Raw) -> None:
    address = raw.malloc(4096)
    assert raw("axclrtFree", address + 1) == NOT_DEVICE_MEMORY
    assert [raw("axclrtFree", address) for _ in range(2)] == [0, NOT_DEVICE_MEMORY]


def test_silence_is_success_and_nothing_done(opened: Callable[..., Raw]) -> None:
    raw = opened(mode=Mode.SILENT)
    address = raw.malloc(4096)
    target = ctypes.create_string_buffer(b"before", 6)
    assert raw("axclrtMemcpy", ctypes.addressof(target), address + 5000, 6, DOWN) == 0
    assert target.raw == b"before"


def test_a_thread_has_no_context_of_its_own(raw: Raw) -> None:
    codes: list[int] = []

    def elsewhere() -> None:
        address = ctypes.c_uint64(0)
        codes.append(raw("axclrtMalloc", ctypes.byref(address), 4096, 0))
        codes.append(raw("axclrtSetCurrentContext", context))
        codes.append(raw("axclrtMalloc", ctypes.byref(address), 4096, 0))

    context = raw.number("axclrtGetCurrentContext")
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert codes == [NO_CONTEXT, 0, 0]


def test_nothing_goes_before_init(axcl_library: Path, tmp_path: Path) -> None:
    with simulated(strict(tmp_path)):
        raw = Raw(axcl_library)
        assert raw("axclrtSetDevice", 1) == FAILED


@pytest.mark.parametrize(("quirks", "code"), [((), 0x8030_0507), ((Quirk.OOM_AS_070C,), 0x8030_050C)])
def test_a_full_memory(opened: Callable[..., Raw], quirks: tuple[Quirk, ...], code: int) -> None:
    raw = opened(memory_mib=4, quirks=frozenset(quirks))
    first = raw.malloc(3 * MIB)
    place = ctypes.c_uint64(0)
    assert raw("axclrtMalloc", ctypes.byref(place), 2 * MIB, 0) == code
    assert place.value == 0
    assert raw("axclrtFree", first) == 0
    assert raw.malloc(2 * MIB) == first


def test_memory_that_is_not_returned_stays_taken_until_a_reboot(
    opened: Callable[..., Raw], tmp_path: Path
) -> None:
    quirk = frozenset({Quirk.CMM_NOT_RETURNED})
    raw = opened(memory_mib=4, quirks=quirk)
    assert raw("axclrtFree", raw.malloc(3 * MIB)) == 0
    assert raw("axclFinalize") == 0
    with simulated(strict(tmp_path, memory_mib=4, quirks=quirk)):
        again = Raw(raw._library._name)  # type: ignore[arg-type]
        again.open()
        place = ctypes.c_uint64(0)
        assert again("axclrtMalloc", ctypes.byref(place), 2 * MIB, 0) != 0
        assert again("axclrtRebootDevice", 1) == 0
    with simulated(strict(tmp_path, memory_mib=4)):
        fresh = Raw(raw._library._name)  # type: ignore[arg-type]
        fresh.open()
        fresh.malloc(3 * MIB)


def test_a_device_that_was_lost_answers_nobody(raw: Raw, tmp_path: Path) -> None:
    address = raw.malloc(4096)
    state = CardState.open(strict(tmp_path).state)
    state.order(fault=Fault.LOST)
    assert raw.put(address, b"x") == 0x8030_0181
    found = (ctypes.c_uint32 * 257)()
    assert raw("axclrtGetDeviceList", found) == 0x8030_0181
    state.order(fault=Fault.NONE)
    # It is back on the bus, but what this process had on it is gone.
    assert raw("axclrtGetDeviceList", found) == 0
    assert raw.put(address, b"x") == 0x8030_0181


def test_devices_have_memories_of_their_own(opened: Callable[..., Raw]) -> None:
    raw = opened(devices=3)
    found = (ctypes.c_uint32 * 257)()
    assert raw("axclrtGetDeviceList", found) == 0
    assert list(found[:5]) == [3, 1, 2, 3, 0]
    address = raw.malloc(4096)
    assert raw.put(address, b"first") == 0
    assert raw("axclrtSetDevice", 3) == 0
    assert raw.malloc(4096) == address
    assert raw.get(address, 5) == b"\xff" * 5
    assert raw("axclrtSetDevice", 1) == 0
    assert raw.get(address, 5) == b"first"
    assert bus_id(2) == "0001:03:00.0"


def test_bytes_and_calls_are_counted(raw: Raw) -> None:
    address = raw.malloc(4096)
    raw.put(address, bytes(100))
    raw.get(address, 30)
    raw("axclrtMemcpy", address, address + 50, 20, WITHIN)
    counted = (ctypes.c_uint64 * 8)()
    assert raw("hearth_axclsim_counters", 1, counted) == 0
    assert list(counted[:6]) == [100, 30, 20, 1, 1, 1]
    before_ns = raw.value("hearth_axclsim_ns")
    raw.put(address, bytes(4096))
    assert before_ns < raw.value("hearth_axclsim_ns")
