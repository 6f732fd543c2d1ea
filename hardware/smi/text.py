"""What ``axcl-smi`` prints, as figures. Pure: text in, dataclasses out.

The layout is the same from V2.18 to V3.10.2; what surrounds it is not: debug lines before the table, a last
border that is missing when no process uses a card, spaces that a web page has moved. So cells are found by
the bars between them, never by columns. Source: ``cmd_info.cpp`` of the tool, and output shown by its users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hardware.card import CardMemory

MIB, KIB = 1 << 20, 1 << 10


@dataclass(frozen=True, slots=True)
class SmiCard:
    """One card of the table. What the tool shows as ``--`` is None. ``memory`` is its CMM.

    ``index`` counts cards; ``bus_id`` is where it sits, ``0001:01:00.0``. Percentages are 0 to 100.
    """

    index: int
    name: str
    bus_id: str
    firmware: str | None = None
    temperature_c: float | None = None
    cpu_percent: float | None = None
    npu_percent: float | None = None
    memory: CardMemory | None = None
    system_memory: CardMemory | None = None


@dataclass(frozen=True, slots=True)
class SmiProcess:
    """A process of this machine that uses a card, and the CMM its NPU work holds."""

    card: int
    pid: int
    name: str
    npu_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole table. A card that the tool could not open has no row, and so is not among ``cards``."""

    version: str | None
    driver: str | None
    cards: tuple[SmiCard, ...] = ()
    processes: tuple[SmiProcess, ...] = ()

    def card(self, bus_id: str, index: int) -> SmiCard | None:
        """The card on that bus; where the bus is not known, the card of that number."""
        by_bus = [card for card in self.cards if card.bus_id.lower() == bus_id.lower()]
        if by_bus or _BUS.fullmatch(bus_id):
            return by_bus[0] if by_bus else None
        return next((card for card in self.cards if card.index == index), None)


_BUS = re.compile(r"[0-9A-Fa-f]{4,}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]+")
_VERSIONS = re.compile(r"AXCL-SMI\s+(\S+)\s+Driver\s+(\S+)")
_SIZES = r"(?:(?P<{0}_used>\d+)\s*MiB|--)\s*/\s*(?:(?P<{0}_total>\d+)\s*MiB|--)"
_CARD = re.compile(
    r"\|\s*(?P<index>\d+)\s+(?P<name>\S.*?)\s+(?P<firmware>\S+)"
    rf"\s*\|\s*(?P<bus>{_BUS.pattern})"
    rf"\s*\|\s*{_SIZES.format('system')}"
    r"\s*\|\s*\|\s*\S+\s+(?P<temperature>-?\d+(?:\.\d+)?\s*C|--)\s[^|]*"
    r"\|\s*(?P<cpu>\d+(?:\.\d+)?\s*%+|--)\s+(?P<npu>\d+(?:\.\d+)?\s*%+|--)"
    rf"\s*\|\s*{_SIZES.format('cmm')}\s*\|"
)
_PROCESSES = "Processes:"
_PROCESS = re.compile(r"\|\s*(\d+)\s+(\d+)\s+(\S[^\n]*?)\s+(\d+)\s*KiB\s*\|")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_summary(text: str) -> Summary:
    """The table that ``axcl-smi`` prints when it is asked nothing; whatever stands around it is left out."""
    versions = _VERSIONS.search(text)
    top, _, bottom = text.partition(_PROCESSES)
    return Summary(
        version=versions[1] if versions else None,
        driver=versions[2] if versions else None,
        cards=tuple(_card(row) for row in _CARD.finditer(top)),
        processes=tuple(
            SmiProcess(int(row[1]), int(row[2]), row[3], int(row[4]) * KIB)
            for row in _PROCESS.finditer(bottom)
        ),
    )


def _card(row: re.Match[str]) -> SmiCard:
    return SmiCard(
        index=int(row["index"]),
        name=row["name"],
        bus_id=row["bus"],
        firmware=None if row["firmware"] == "--" else row["firmware"],
        temperature_c=_number(row["temperature"]),
        cpu_percent=_percent(row["cpu"]),
        npu_percent=_percent(row["npu"]),
        memory=_memory(row["cmm_used"], row["cmm_total"]),
        system_memory=_memory(row["system_used"], row["system_total"]),
    )


def _memory(used: str | None, total: str | None) -> CardMemory | None:
    """None too when the total is 0: then the card did not answer, and the tool printed what it began with."""
    if used is None or total is None or int(total) == 0:
        return None
    return CardMemory(int(total) * MIB, max(0, int(total) - int(used)) * MIB)


@dataclass(frozen=True, slots=True)
class Info:
    """What the blocks of ``axcl-smi info`` tell of one device; what they do not tell is None.

    ``device_id`` is the number of its PCIe bus. ``npu_percent`` is the mean over the cores shown.
    """

    device_id: int
    temperature_c: float | None = None
    memory: CardMemory | None = None
    npu_percent: float | None = None
    cpu_percent: float | None = None
    engine_version: str | None = None


def read_info(text: str) -> tuple[Info, ...]:
    """Every device that ``axcl-smi info --temp|--cmm|--npu|--cpu`` shows, in the order shown."""
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            continue
        if name.strip() == "Device ID":
            blocks.append({})
        if blocks:
            blocks[-1][name.strip()] = value.strip()
    return tuple(_info(block) for block in blocks if _number(block["Device ID"]) is not None)


def _info(block: dict[str, str]) -> Info:
    cores = [_percent(value) for name, value in block.items() if name.startswith("vnpu")]
    busy = [core for core in cores if core is not None]
    milli_c = _number(block.get("temperature", ""))
    total, free = (_number(block.get(f"CMM {name}", "")) for name in ("Total", "Remain"))
    return Info(
        device_id=int(_number(block["Device ID"]) or 0),
        temperature_c=None if milli_c is None else milli_c / 1000,
        memory=None if total is None or free is None else CardMemory(int(total) * KIB, int(free) * KIB),
        npu_percent=sum(busy) / len(busy) if busy else None,
        cpu_percent=_percent(block.get("CPU Usage (%)", "")),
        engine_version=block.get("engine version"),
    )


def complaint(text: str) -> str | None:
    """What the tool complains of, in its own words; None when it does not."""
    for line in text.splitlines():
        if re.search(r"\[E\]|\bfail, ret = |is already running|out of connected devices", line):
            return re.sub(r"^(\[[^\]]*\])+:?\s*", "", line.strip())
    return None


def _number(text: str) -> float | None:
    found = _NUMBER.match(text)
    return float(found[0]) if found else None


def _percent(text: str) -> float | None:
    """The tool prints some percent signs twice."""
    number = _number(text)
    return None if number is None or not 0 <= number <= 100 else number
