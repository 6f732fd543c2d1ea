"""What the virtual card's owner, its operator and everyone who looks at it share: one small mapped file.

Three records: the owner's ``Report``, the operator's ``Orders``, and which processes hold memory of it. The
temperature is not in it as a number that someone keeps up to date: it follows from the last report and the
time that has passed since, so the card cools while nobody runs. Several cards are several files.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from hardware.card import CardMemory, Counters
from hardware.lock import is_held
from hardware.virtual import holders, thermal
from hardware.virtual.clock import Clock, SystemClock
from hardware.virtual.holders import Holder, started_at
from hardware.virtual.shared import SharedRecord

MAGIC, VERSION = b"HEARTHVC", 2
SLOW_FACTOR = 4.0
HOT_C = 90.0

_HEADER = struct.Struct("<8sI4x")
_STAMP = "16sdd"
_REPORT = struct.Struct(f"<Q{_STAMP}ddQQQB7x7Qd")
_ORDERS = struct.Struct(f"<I4xdddQd{_STAMP}QI4x{_STAMP}")
_NO_BOOT_ID = bytes(16)


class Fault(IntEnum):
    """What the operator can have the card suffer."""

    NONE = 0
    HOT = 1
    """Readings show a forced temperature."""
    HANG = 2
    """An execute gives no answer; after its timeout the card is lost."""
    LOST = 3
    """Every call finds the card gone, and nothing can be read from it."""
    OOM = 4
    """Nothing more fits into its memory."""
    SLOW = 5
    """Executes take a multiple of their time."""
    BLIND = 6
    """Work goes on, but readings are missing."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that can be told from another across restarts of the machine."""

    boot_id: bytes = _NO_BOOT_ID
    steady_s: float = 0.0
    wall_s: float = 0.0

    @classmethod
    def now(cls, clock: Clock) -> Stamp:
        return cls(clock.boot_id, clock.steady(), clock.wall())

    def age_s(self, clock: Clock) -> float | None:
        """Seconds since then, at least 0; None when the machine restarted with a clock that went back.

        Within one run of the machine the steady clock counts, so a wall clock that jumps does no harm.
        """
        if self.boot_id == clock.boot_id != _NO_BOOT_ID:
            return max(0.0, clock.steady() - self.steady_s)
        passed = clock.wall() - self.wall_s
        return passed if passed >= 0 else None


@dataclass(frozen=True, slots=True)
class Report:
    """What the owner tells, as of ``stamp``. ``npu_load`` is 0 to 1; counters since the card was opened."""

    pid: int
    stamp: Stamp
    temperature_c: float
    npu_load: float
    order_seen: int
    memory_total_bytes: int
    memory_used_bytes: int
    is_lost: bool
    counters: Counters


@dataclass(frozen=True, slots=True)
class Orders:
    """What the operator wants. ``set_*`` puts the model at a temperature once; the fault ``hot`` pins it.

    ``boots``: how often the device was booted anew; who saw an older number has lost what it had on it.
    ``failing_reboots``: how many of the next reboots will fail.
    """

    fault: Fault = Fault.NONE
    slow_factor: float = SLOW_FACTOR
    hot_c: float = HOT_C
    ambient_c: float | None = None
    set_number: int = 0
    set_c: float = 0.0
    set_stamp: Stamp = Stamp()
    boots: int = 0
    failing_reboots: int = 0
    boot_stamp: Stamp = Stamp()


class CardState:
    """The open state file of one virtual card. Owner and operator write, everyone reads."""

    def __init__(self, directory: Path, index: int, clock: Clock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._turn_path = directory / f"virtual-{index}.turn"
        self.lock_path = lock_path(directory, index)
        with self._turn():
            self._pages = _map(directory / f"virtual-{index}.state")
        self._report = SharedRecord(self._pages, _HEADER.size, _REPORT.size)
        self._orders = SharedRecord(self._pages, _ORDERS_AT, _ORDERS.size)
        self._holders = SharedRecord(self._pages, _HOLDERS_AT, holders.SIZE_BYTES)

    @classmethod
    def open(cls, directory: Path, index: int = 0, clock: Clock | None = None) -> CardState:
        """Open the state, making the file where there is none. A file of another version is begun anew."""
        return cls(directory, index, clock or SystemClock())

    def close(self) -> None:
        self._pages.close()

    def report(self) -> Report | None:
        """What the owner told last; None before the first owner."""
        body = self._report.read()
        return _decode_report(body) if body else None

    def orders(self) -> Orders:
        body = self._orders.read()
        return _decode_orders(body) if body else Orders()

    def has_new_orders(self) -> bool:
        """Whether ``orders`` would now say something new; cheap enough for every call into the card."""
        return self._orders.has_news()

    def write_report(self, report: Report) -> None:
        """For the owner of the card alone."""
        self._report.write(_encode_report(report))

    def order(self, **changes: Any) -> Orders:
        """Change some of the orders; those who order take turns."""
        with self._turn():
            orders = replace(self.orders(), **changes)
            self._orders.write(_encode_orders(orders))
        return orders

    def set_temperature(self, temperature_c: float) -> Orders:
        """Put the model at a temperature; from there it goes on by itself."""
        with self._turn():
            orders = self.orders()
            orders = replace(
                orders,
                set_number=orders.set_number + 1,
                set_c=temperature_c,
                set_stamp=Stamp.now(self._clock),
            )
            self._orders.write(_encode_orders(orders))
        return orders

    def reboot(self) -> bool:
        """Boot the device anew: it forgets everything, and a hang or a loss is over. False: it failed."""
        with self._turn():
            orders = self.orders()
            if orders.failing_reboots:
                orders = replace(orders, failing_reboots=orders.failing_reboots - 1)
                self._orders.write(_encode_orders(orders))
                return False
            is_cured = orders.fault in (Fault.HANG, Fault.LOST)
            orders = replace(
                orders,
                fault=Fault.NONE if is_cured else orders.fault,
                boots=orders.boots + 1,
                boot_stamp=Stamp.now(self._clock),
            )
            self._holders.write(holders.encode([]))
            self._orders.write(_encode_orders(orders))
        return True

    def holders(self) -> list[Holder]:
        """Who holds memory of the device; the dead are left out, unless theirs is kept."""
        body = self._holders.read()
        return [each for each in holders.decode(body) if each.is_kept or each.is_alive] if body else []

    def hold(self, size_bytes: int, most_bytes: int, *, is_kept: bool = False) -> bool:
        """Say how much this process holds now, 0 for nothing. False: with what others hold it is too much."""
        pid = os.getpid()
        mine = Holder(pid, started_at(pid), size_bytes, is_kept)
        with self._turn():
            others = [each for each in self.holders() if each.pid != pid or each.started != mine.started]
            if size_bytes + sum(each.size_bytes for each in others) > most_bytes:
                return False
            self._holders.write(holders.encode([*others, mine] if size_bytes else others))
        return True

    def is_owned(self) -> bool:
        """Whether a living process has the card open."""
        return is_held(self.lock_path)

    def ambient_c(self, configured_c: float) -> float:
        ordered = self.orders().ambient_c
        return configured_c if ordered is None else ordered

    def temperature_c(self, configured_ambient_c: float) -> float:
        """The temperature now, without noise: the model's, or the pinned one under the fault ``hot``."""
        orders = self.orders()
        return orders.hot_c if orders.fault is Fault.HOT else self.model_c(configured_ambient_c)

    def model_c(self, configured_ambient_c: float) -> float:
        """What the model says now."""
        orders, report = self.orders(), self.report()
        ambient_c = self.ambient_c(configured_ambient_c)
        if orders.set_number > (report.order_seen if report else 0):
            start_c, stamp = orders.set_c, orders.set_stamp
        elif report:
            start_c, stamp = report.temperature_c, report.stamp
        else:
            return thermal.resting_c(ambient_c)
        age_s = stamp.age_s(self._clock)
        if age_s is None:
            return thermal.resting_c(ambient_c)
        return thermal.temperature_after(age_s, start_c=start_c, ambient_c=ambient_c, load=0.0)

    def reading_c(self, configured_ambient_c: float, noise: random.Random) -> float:
        """What the sensor shows: the model's temperature, off by up to ``thermal.NOISE_C``."""
        offset_c = noise.uniform(-thermal.NOISE_C, thermal.NOISE_C)
        return self.temperature_c(configured_ambient_c) + offset_c

    def npu_load(self) -> float:
        """The card's load now, 0 to 1."""
        report = self.report()
        age_s = report.stamp.age_s(self._clock) if report else None
        if report is None or age_s is None:
            return 0.0
        return thermal.load_after(age_s, start=report.npu_load, load=0.0)

    def memory(self, total_bytes: int) -> CardMemory:
        """The card's memory now. What an owner took is free again once that process has gone."""
        held = self.holders()
        if held:
            return CardMemory(total_bytes, max(0, total_bytes - sum(each.size_bytes for each in held)))
        report = self.report()
        if report is None or not self.is_owned():
            return CardMemory(total_bytes, total_bytes)
        return CardMemory(report.memory_total_bytes, report.memory_total_bytes - report.memory_used_bytes)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        descriptor = os.open(self._turn_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def lock_path(directory: Path, index: int = 0) -> Path:
    """The file whose flock says who owns the card."""
    return directory / f"virtual-{index}.lock"


_ORDERS_AT = _HEADER.size + SharedRecord.room(_REPORT.size)
_HOLDERS_AT = _ORDERS_AT + SharedRecord.room(_ORDERS.size)
_FILE_BYTES = _HOLDERS_AT + SharedRecord.room(holders.SIZE_BYTES)


def _map(path: Path) -> mmap.mmap:
    if not _is_ours(path):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(_HEADER.pack(MAGIC, VERSION).ljust(_FILE_BYTES, b"\0"))
        fresh.replace(path)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _FILE_BYTES)


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            return header == _HEADER.pack(MAGIC, VERSION) and os.fstat(file.fileno()).st_size == _FILE_BYTES
    except FileNotFoundError:
        return False


def _fields(record: Stamp | Counters) -> list[Any]:
    # dataclasses.astuple copies deeply, which costs 20 µs; this runs once per token.
    return [getattr(record, name) for name in record.__slots__]


def _encode_report(report: Report) -> bytes:
    return _REPORT.pack(
        report.pid,
        *_fields(report.stamp),
        report.temperature_c,
        report.npu_load,
        report.order_seen,
        report.memory_total_bytes,
        report.memory_used_bytes,
        report.is_lost,
        *_fields(report.counters),
    )


def _decode_report(body: bytes) -> Report:
    pid, boot_id, steady_s, wall_s, temperature_c, load, seen, total, used, lost, *counters = _REPORT.unpack(
        body
    )
    stamp = Stamp(boot_id, steady_s, wall_s)
    return Report(pid, stamp, temperature_c, load, seen, total, used, bool(lost), Counters(*counters))


def _encode_orders(orders: Orders) -> bytes:
    ambient_c = math.nan if orders.ambient_c is None else orders.ambient_c
    return _ORDERS.pack(
        orders.fault,
        orders.slow_factor,
        orders.hot_c,
        ambient_c,
        orders.set_number,
        orders.set_c,
        *_fields(orders.set_stamp),
        orders.boots,
        orders.failing_reboots,
        *_fields(orders.boot_stamp),
    )


def _decode_orders(body: bytes) -> Orders:
    fault, factor, hot_c, ambient_c, number, set_c, *rest = _ORDERS.unpack(body)
    set_stamp, (boots, failing), boot_stamp = Stamp(*rest[:3]), rest[3:5], Stamp(*rest[5:])
    ambient = None if math.isnan(ambient_c) else ambient_c
    return Orders(Fault(fault), factor, hot_c, ambient, number, set_c, set_stamp, boots, failing, boot_stamp)
