"""The whole examination, group by group, in the order in which things depend on one another."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from hardware.choose import wanted
from hardware.doctor.finding import Finding, Status, warn, well
from hardware.doctor.host import look_at_host
from hardware.doctor.machine import Machine
from hardware.doctor.pcie import NODES, PCI, Slot, find_slots, look_at_bus, look_at_driver
from hardware.doctor.sdk import ask_card, ladder, look_at_cards, look_at_library, silent
from hardware.health import SMI_LOCK
from hardware.smi.text import Summary
from hardware.smi.tool import Smi, SmiBusy, SmiError, find_smi
from worker.doctor.house import look_at_house, look_at_models

ASK_S = 15.0
"""How long the tool may take for the doctor, who has more patience than the monitor."""
TURN_S = 8.0
"""How long the monitor's tool is waited for; it is ended when it takes longer."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """Findings about one part of the whole. ``ladder``: what may bring a silent card back, with commands."""

    name: str
    findings: tuple[Finding, ...]
    ladder: tuple[tuple[str, str], ...] = ()


def examine(machine: Machine, settings: Settings) -> Iterator[Group]:
    """Each group as soon as it is known."""
    kind, _ = wanted(settings, machine.path(PCI), machine.path(NODES[0]))
    yield Group("machine", tuple(look_at_host(machine, has_card=kind != "virtual")))
    card, memory_bytes = _card(machine, settings, kind)
    yield card
    yield Group("house", tuple(look_at_house(machine, settings)))
    yield Group("models", tuple(look_at_models(settings, memory_bytes)))


def worst(groups: list[Group]) -> Status:
    """The gravest of all findings."""
    order = list(Status)
    found = [finding.status for group in groups for finding in group.findings]
    return max(found, key=order.index, default=Status.PASS)


def _card(machine: Machine, settings: Settings, kind: str) -> tuple[Group, int]:
    """The card's group, and the bytes that models may take on it. ``kind``: which one Hearth will use."""
    slots = find_slots(machine)
    if kind == "virtual":
        return Group("card", (_software(machine, settings, slots),)), settings.virtual_card.memory_mib * MIB
    if kind == "axengine":
        return Group("card", (well("card", "the AX650N that runs this, by axengine"),)), _capacity(
            None, settings
        )
    findings = list(look_at_bus(machine, slots, is_wanted=True))
    if slots:
        findings += look_at_driver(machine)
    findings += look_at_library(machine, settings.axcl.library)
    summary, trouble = ask_card(asking(machine, settings))
    if summary is None:
        findings.append(silent(trouble or ""))
        return Group("card", tuple(findings), tuple(ladder(slots))), _capacity(None, settings)
    findings += look_at_cards(summary, slots, settings)
    return Group("card", tuple(findings)), _capacity(summary, settings)


def _software(machine: Machine, settings: Settings, slots: list[Slot]) -> Finding:
    """Why no real card will be used."""
    if slots:
        told = f"HEARTH_CARD is {settings.card}: the one at {slots[0].bus_id} is left alone"
        return warn("card", told, "unset HEARTH_CARD")
    if settings.card == "virtual":
        return well("card", "software, as HEARTH_CARD says")
    (finding,) = look_at_bus(machine, slots, is_wanted=False)
    return finding


def lock_path(settings: Settings) -> Path:
    """The monitor's lock; where Hearth never ran, one that leaves no data directory of the wrong owner."""
    if settings.data_dir.is_dir():
        return settings.data_dir / SMI_LOCK
    return Path(tempfile.gettempdir()) / f"hearth-{os.geteuid()}-{SMI_LOCK}"


def asking(machine: Machine, settings: Settings) -> Callable[[], str]:
    """What runs the machine's ``axcl-smi`` once, under the monitor's lock: its turn is waited for."""

    def ask() -> str:
        program = find_smi(settings.axcl.smi, machine.root)
        if program is None:
            raise SmiError("axcl-smi is not installed")
        smi = Smi(program, lock_path(settings), timeout_s=ASK_S)
        deadline_s = time.monotonic() + TURN_S
        while True:
            try:
                return smi.run()
            except SmiBusy:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)

    return ask


def _capacity(summary: Summary | None, settings: Settings) -> int:
    """Bytes of the largest card, less the margin; what the settings say where none tells."""
    told = [card.memory.total_bytes for card in summary.cards if card.memory] if summary else []
    return max(told, default=settings.axcl.memory_mib * MIB) - settings.models.margin_mib * MIB
