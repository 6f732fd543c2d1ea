"""From the slot to ``/dev``: is a card on the bus, how fast is its link, has it a driver that lets us in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hardware.doctor.finding import Finding, fail, warn, well
from hardware.doctor.machine import Machine

VENDOR, DEVICE = "0x1f4b", "0x0650"
PCI = "/sys/bus/pci/devices"
_CONFIG = "/boot/firmware/config.txt"
_FIRMWARE = "/lib/firmware/axcl/ax650_card.pac"
NODES = ("/dev/axcl_host", "/dev/msg_userdev", "/dev/ax_mmb_dev")
_MODULES = ("ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb", "axcl_host")

_LANE_MB_S = {2.5: 250, 5.0: 500, 8.0: 985}
"""What one lane carries, in MB/s, after the line code."""
_CARD_GT_S, _CARD_LANES = 5.0, 2
"""An AX650N speaks PCIe 2.0 over two lanes; a Raspberry Pi 5 has one to give."""

OVERLAYS = ("dtparam=pciex1", "dtoverlay=pciex1-compat-pi5,no-mip")
"""Under ``[all]`` of a Raspberry Pi's config.txt; without the second a card enumerates and yet is not up."""

_TROUBLES = (
    (re.compile(r"device \d+: dead!"), "the card was declared dead"),
    (re.compile(r"\[STATUS\]: FAILED"), "the card's firmware could not be loaded"),
    (re.compile(r"page allocation failure.*|kmalloc \d+ memory failed"), "the driver got no memory"),
)
_LIFE = re.compile(r"device \d+: alive!|Firmware loading")


@dataclass(frozen=True, slots=True)
class Slot:
    """A card on the bus; ``bus_id`` as the kernel writes it, ``0001:01:00.0``."""

    bus_id: str
    gt_s: float | None
    lanes: int | None


def find_slots(machine: Machine) -> list[Slot]:
    """Every AX650N that the kernel has found."""
    slots = []
    for name in machine.names(PCI):
        if (machine.text(f"{PCI}/{name}/vendor"), machine.text(f"{PCI}/{name}/device")) == (VENDOR, DEVICE):
            speed = _number(machine.text(f"{PCI}/{name}/current_link_speed"))
            lanes = _number(machine.text(f"{PCI}/{name}/current_link_width"))
            slots.append(Slot(name, speed, None if lanes is None else int(lanes)))
    return slots


def look_at_bus(machine: Machine, slots: list[Slot], *, is_wanted: bool) -> Iterator[Finding]:
    """The slots, and the way to them. ``is_wanted``: something says that there is a card."""
    if not slots:
        yield _no_card(machine, is_wanted=is_wanted)
        return
    for slot in slots:
        yield _link(machine, slot)
    yield from _overlays(machine)


def look_at_driver(machine: Machine) -> Iterator[Finding]:
    """Modules, device nodes, the card's firmware, and what the kernel said last."""
    missing = [node for node in NODES if not machine.has(node)]
    if missing:
        yield _no_driver(machine, missing)
    else:
        yield from _nodes(machine)
    if not machine.has(_FIRMWARE):
        yield fail(
            "firmware file",
            f"{_FIRMWARE} is missing: the driver has nothing to start the card with",
            "sudo apt install --reinstall axclhost",
        )
    yield from _kernel_log(machine)


def _no_card(machine: Machine, *, is_wanted: bool) -> Finding:
    told = f"no AX650N on the PCIe bus ({VENDOR[2:]}:{DEVICE[2:]})"
    fix = "if there is one in this machine: docs/raspberry-pi.md"
    if machine.is_raspberry_pi:
        lines = " and ".join(OVERLAYS)
        fix = f"put {lines} under [all] of {_CONFIG}, power off, seat the card, power on"
    if is_wanted:
        return fail("card", f"{told}, though the settings or the driver say that there is one", fix)
    return warn("card", f"{told}: software stands in for it", fix)


def _link(machine: Machine, slot: Slot) -> Finding:
    if slot.gt_s is None or not slot.lanes:
        return fail(
            f"link {slot.bus_id}",
            "the link is down: the kernel knows the card, but nothing answers there",
            "power off, unplug for ten seconds (a restart does not reset the card), seat the card, power on",
        )
    lane = _LANE_MB_S.get(slot.gt_s)
    rate = f"{slot.gt_s:g} GT/s × {slot.lanes}" + (f", {lane * slot.lanes} MB/s at most" if lane else "")
    if slot.gt_s < _CARD_GT_S:
        fix = f"remove dtparam=pciex1_gen=1 from {_CONFIG}" if machine.is_raspberry_pi else "reseat the card"
        return warn(f"link {slot.bus_id}", f"{rate}: the card can do {_CARD_GT_S:g} GT/s", fix)
    if slot.lanes < _CARD_LANES and not machine.is_raspberry_pi:
        return warn(f"link {slot.bus_id}", f"{rate}: the card can use 2 lanes", "try a slot with more lanes")
    return well(f"link {slot.bus_id}", rate + (", all a Raspberry Pi gives" if slot.lanes == 1 else ""))


def _overlays(machine: Machine) -> Iterator[Finding]:
    config = machine.text(_CONFIG)
    if not machine.is_raspberry_pi or config is None or machine.has(NODES[0]):
        return
    lines = [line.strip() for line in config.splitlines()]
    for overlay in OVERLAYS:
        if overlay not in lines:
            yield warn(
                "overlay",
                f"{_CONFIG} lacks {overlay}",
                f"echo '{overlay}' | sudo tee -a {_CONFIG} && sudo reboot   (it must stand under [all])",
            )


def _no_driver(machine: Machine, missing: list[str]) -> Finding:
    kernel, loaded = machine.kernel, _loaded(machine)
    told = f"{', '.join(missing)} missing"
    if "axcl_host.ko" in (machine.text(f"/lib/modules/{kernel}/modules.dep") or ""):
        absent = [name for name in _MODULES if name not in loaded]
        why = (
            f"{', '.join(absent)} not loaded"
            if absent
            else "the modules are loaded, the card did not come up"
        )
        fix = "sudo modprobe axcl_host" if absent else "sudo dmesg | grep -iE 'axcl|ax_pcie' | tail"
        return fail("driver", f"{told}: {why}", fix)
    if any("axcl" in (machine.text(f"/lib/modules/{other}/modules.dep") or "") for other in _others(machine)):
        return fail(
            "driver",
            f"{told}: the driver was built for another kernel than {kernel}",
            f"sudo dkms autoinstall -k {kernel} && sudo modprobe axcl_host",
        )
    return fail(
        "driver",
        f"{told}: the driver is not installed",
        "sudo apt install dkms axclhost   (M5Stack's package source: docs/raspberry-pi.md)",
    )


def _nodes(machine: Machine) -> Iterator[Finding]:
    closed = [node for node in NODES if not machine.may_use(node)]
    if closed:
        told = f"{', '.join(closed)}: this user may not use them"
        yield fail("driver", told, f"sudo chmod 666 {' '.join(closed)}   (then have udev rules do it)")
        return
    absent = [name for name in _MODULES if name not in _loaded(machine)]
    if absent:
        yield warn(
            "driver", f"device nodes are there, but {', '.join(absent)} not loaded", "sudo modprobe axcl_host"
        )
    else:
        yield well("driver", "modules loaded, device nodes usable")


def _kernel_log(machine: Machine) -> Iterator[Finding]:
    """Trouble that no later sign of life has followed. Where only root may read the log, nothing."""
    ran = machine.run("dmesg")
    if ran is None or ran.status != 0:
        return
    last: tuple[str, str] | None = None
    for line in ran.output.splitlines():
        for pattern, meaning in _TROUBLES:
            if pattern.search(line):
                last = (meaning, line.strip())
        if _LIFE.search(line):
            last = None
    if last:
        yield warn("kernel log", f"{last[0]}: {last[1][:120]}", "axcl-smi reboot -d 0")


def _loaded(machine: Machine) -> set[str]:
    return {line.split()[0] for line in (machine.text("/proc/modules") or "").splitlines() if line.strip()}


def _others(machine: Machine) -> list[str]:
    return [name for name in machine.names("/lib/modules") if name != machine.kernel]


def _number(text: str | None) -> float | None:
    found = re.match(r"\d+(\.\d+)?", text or "")
    return float(found[0]) if found else None
