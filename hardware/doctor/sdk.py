"""The vendor's software and what the card says of itself: library, tool, versions, memory, temperature."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from config.settings import Settings
from hardware.doctor.finding import Finding, fail, warn, well
from hardware.doctor.machine import Machine
from hardware.doctor.pcie import Slot
from hardware.smi.text import SmiCard, SmiProcess, Summary, complaint, read_summary
from hardware.smi.tool import LIBRARIES, SmiError

MIB = 1 << 20
OLDEST_SDK = (3, 6, 2)
"""AX8850 cards need this SDK or a later one. Source: AXERA-TECH/pulsar2-docs-en, ``build_llm``."""
IDLE_BYTES = 64 * MIB
"""A card that nobody uses has about 18 MiB of its CMM taken."""

_NAMES = ("libaxcl_rt.so", "libaxcl_rt.so.1")
_LOAD = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
version = getattr(library, "axclrtGetFullVersion", None)
if version is not None:
    version.restype = ctypes.c_char_p
    print((version() or b"").decode())
"""
"""In a process of its own: a library that crashes or hangs when loaded must not take the doctor along."""

LADDER = (
    ("reboot the card by its tool", "axcl-smi reboot -d 0"),
    (
        "load its driver anew",
        "sudo modprobe -r axcl_host ax_pcie_mmb ax_pcie_msg ax_pcie_host_dev && sudo modprobe axcl_host",
    ),
    (
        "take it off the bus and look again",
        "echo 1 | sudo tee /sys/bus/pci/devices/{bus}/remove && echo 1 | sudo tee /sys/bus/pci/rescan",
    ),
    ("cut its power: shut down, unplug for ten seconds (a restart does not reset the card)", "sudo poweroff"),
)
"""What brings back a card that does not answer, gentlest first. Stop Hearth before, wait a minute between."""


def look_at_library(machine: Machine, named: Path | None = None) -> Iterator[Finding]:
    """Whether ``libaxcl_rt.so`` is there and can be loaded."""
    places = [str(named)] if named else [f"{LIBRARIES}/{name}" for name in _NAMES]
    path = next((place for place in places if machine.has(place)), None)
    if path is None:
        told = f"{places[0]} is missing"
        yield fail("library", told, "sudo apt install --reinstall axclhost   (docs/raspberry-pi.md)")
        return
    ran = machine.run(
        *("env", f"LD_LIBRARY_PATH={LIBRARIES}", sys.executable, "-I", "-c", _LOAD, str(machine.path(path)))
    )
    if ran is None or ran.status != 0:
        why = ran.output.strip().splitlines()[-1:] if ran else ["it did not end"]
        yield fail("library", f"{path} cannot be loaded: {' '.join(why)}", f"ldd {path} | grep 'not found'")
    else:
        yield well("library", f"{path} {ran.output.strip()}".strip())


def ask_card(ask: Callable[[], str]) -> tuple[Summary | None, str | None]:
    """What the tool shows, or what is wrong with it."""
    try:
        text = ask()
    except SmiError as error:
        return None, str(error)
    summary = read_summary(text)
    return (summary, None) if summary.cards else (None, complaint(text) or "axcl-smi shows no card")


def look_at_cards(summary: Summary, slots: list[Slot], settings: Settings) -> Iterator[Finding]:
    """What the tool's table says of every card in a slot."""
    yield _versions(summary)
    for bus_id in [slot.bus_id for slot in slots] or [card.bus_id for card in summary.cards]:
        card = summary.card(bus_id, len(summary.cards))
        if card is None:
            told = f"the card at {bus_id} is on the bus, but axcl-smi does not show it"
            yield fail("card", told, "axcl-smi reboot -d 0")
            continue
        yield well("card", f"{card.name} at {card.bus_id}")
        yield _temperature(card, settings)
        yield _memory(card, [each for each in summary.processes if each.card == card.index])


def silent(trouble: str) -> Finding:
    """The card's own system does not answer."""
    if "0x8030010b" in trouble.lower():
        return fail("card", f"{trouble}: the driver is not loaded", "sudo modprobe axcl_host")
    if "cannot be opened" in trouble:
        return fail("axcl-smi", trouble, "run the doctor as the user that Hearth runs as")
    if "not installed" in trouble or "cannot be run" in trouble:
        return fail("axcl-smi", trouble, "sudo apt install --reinstall axclhost   (docs/raspberry-pi.md)")
    return fail("card", f"{trouble} (below: what may bring it back)", "axcl-smi reboot -d 0")


def ladder(slots: list[Slot]) -> list[tuple[str, str]]:
    """What to do, gentlest first, with the command for it."""
    bus = slots[0].bus_id if slots else "BUS"
    return [(what, command.format(bus=bus)) for what, command in LADDER]


def _versions(summary: Summary) -> Finding:
    told = {"driver": summary.driver, "tool": summary.version}
    told |= {f"firmware of card {card.index}": card.firmware for card in summary.cards}
    shown = ", ".join(f"{name} {version or 'unknown'}" for name, version in told.items())
    numbers = {name: _version(version) for name, version in told.items()}
    known = {number for number in numbers.values() if number is not None}
    reinstall = (
        "sudo apt install --reinstall axclhost && sudo poweroff   (then power on: the card keeps its old one)"
    )
    if len(known) > 1:
        return fail("versions", f"{shown}: mixed versions are unstable, all must be the same", reinstall)
    if not known:
        return warn("versions", shown, "axcl-smi -v")
    if min(known) < OLDEST_SDK:
        oldest = "V" + ".".join(map(str, OLDEST_SDK))
        return warn(
            "versions", f"{shown}: models for this card are built for {oldest} and later", "sudo apt upgrade"
        )
    return well("versions", shown)


def _temperature(card: SmiCard, settings: Settings) -> Finding:
    if card.temperature_c is None:
        told = "the card does not tell its temperature: Hearth will hold it"
        return warn("temperature", told, "axcl-smi info --temp -d 0")
    told = f"{card.temperature_c:g} °C"
    if card.temperature_c >= settings.thermal.hold_c:
        return warn(
            "temperature", f"{told}: work is held until {settings.thermal.resume_c:g} °C", "give it air"
        )
    return well("temperature", told)


def _memory(card: SmiCard, users: list[SmiProcess]) -> Finding:
    if card.memory is None:
        return warn("card memory", "the card does not tell", "axcl-smi info --cmm -d 0")
    free, total = card.memory.free_bytes, card.memory.total_bytes
    told = f"{free // MIB} of {total // MIB} MiB free"
    if not users and total - free > IDLE_BYTES:
        return warn(
            "card memory",
            f"{told}, and no process uses it: left behind by one that died",
            "axcl-smi reboot -d 0",
        )
    who = ", ".join(f"{each.name.rpartition('/')[2]} (pid {each.pid})" for each in users)
    return well("card memory", told + (f", used by {who}" if who else ""))


def _version(text: str | None) -> tuple[int, int, int] | None:
    found = re.match(r"V(\d+)\.(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
