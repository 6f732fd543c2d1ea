"""The machine itself: processor, Python, clock speed, a Raspberry Pi's boot loader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from hardware.doctor.finding import Finding, fail, warn, well
from hardware.doctor.machine import Machine

EEPROM_SINCE = date(2023, 12, 6)
"""Boot loaders before this day do not bring the card up. Source: M5Stack's set-up page of the LLM-8850."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
_CPUS = "/sys/devices/system/cpu"
_DATE = re.compile(r"(\d{4})/(\d{2})/(\d{2})")


def look_at_host(machine: Machine, *, has_card: bool) -> Iterator[Finding]:
    """``has_card``: some things matter only where a card is to be fed."""
    yield _architecture(machine)
    yield _python(machine)
    if machine.is_raspberry_pi:
        yield from _boot_loader(machine)
    if has_card:
        yield from _governor(machine)


def _architecture(machine: Machine) -> Finding:
    told = " · ".join(filter(None, (machine.architecture, machine.board, machine.kernel)))
    if machine.architecture in ("aarch64", "x86_64", "arm64", "AMD64"):
        return well("processor", told)
    return fail("processor", f"{told}: only 64-bit ARM and x86 are served", "install a 64-bit system")


def _python(machine: Machine) -> Finding:
    told = ".".join(map(str, machine.python))
    if OLDEST_PYTHON <= machine.python <= NEWEST_PYTHON:
        return well("python", told)
    return fail("python", f"{told}: 3.11 to 3.13 are served", "HEARTH_PYTHON=python3.13 ./hearth doctor")


def _boot_loader(machine: Machine) -> Iterator[Finding]:
    ran = machine.run("vcgencmd", "bootloader_version")
    found = _DATE.search(ran.output) if ran else None
    if found is None:
        return
    made = date(*map(int, found.groups()))
    if made >= EEPROM_SINCE:
        yield well("boot loader", f"of {made}")
    else:
        told = f"of {made}, older than {EEPROM_SINCE}: it may not bring the card up"
        yield fail("boot loader", told, "sudo rpi-eeprom-update -a && sudo reboot")


def _governor(machine: Machine) -> Iterator[Finding]:
    cpus = [name for name in machine.names(_CPUS) if re.fullmatch(r"cpu\d+", name)]
    told = {machine.text(f"{_CPUS}/{cpu}/cpufreq/scaling_governor") for cpu in cpus} - {None}
    if not told:
        return
    names = ", ".join(sorted(filter(None, told)))
    if told == {"performance"}:
        yield well("clock", "governor performance")
    else:
        yield warn(
            "clock",
            f"governor {names}: the processor dozes between the card's answers; with performance small "
            "models were 1.5 to 2 times as fast",
            f"echo performance | sudo tee {_CPUS}/cpu*/cpufreq/scaling_governor",
        )
