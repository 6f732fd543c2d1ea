"""``hearth doctor --bundle``: one archive for a report. No prompt is ever in our logs; keys are taken out."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

from config.settings import Settings, config_file
from hardware.doctor.machine import Machine
from hardware.doctor.pcie import DEVICE, VENDOR
from hardware.smi.tool import Smi, SmiError, find_smi
from worker.doctor.examine import ASK_S, examine, lock_path
from worker.doctor.report import Page, as_data

TAIL_BYTES = 1 << 20
"""Of each log; what went wrong stands at its end."""
_LOG_S = 120.0
"""The card's own logs take a while to be fetched."""

_COMMANDS: dict[str, tuple[str, ...]] = {
    "uname.txt": ("uname", "-a"),
    "lspci.txt": ("lspci", "-vvv", "-d", f"{VENDOR[2:]}:{DEVICE[2:]}"),
    "modules.txt": ("lsmod",),
    "packages.txt": ("dpkg-query", "-W", "axcl*", "dkms"),
    "dkms.txt": ("dkms", "status"),
    "journal.txt": ("journalctl", "-u", "hearth-*", "-n", "5000", "--no-pager", "-o", "short-iso"),
    "clock.txt": ("vcgencmd", "bootloader_version"),
}
_KERNEL = re.compile(r"axcl|ax_pcie|ax_mmb|pcie|device \d+: (?:dead|alive)|oom", re.IGNORECASE)
_SECRETS = re.compile(
    r"(?i)(authorization:?\s*(?:bearer|basic)\s+|bearer\s+|(?:api[_-]?key|password|secret|token)[\"']?\s*[=:]\s*[\"']?"
    r"|://[^\s:/@]*:)([^\s\"'@,}]+)"
)
_HIDDEN = "********"


def write_bundle(machine: Machine, settings: Settings, directory: Path) -> Path:
    """Collect everything there is into ``directory``; what cannot be had is left out. Returns the archive.

    Raises:
        OSError: the archive cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"hearth-doctor-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    secrets = known_secrets(settings)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in _parts(machine, settings):
            _add(archive, name, scrub(text, secrets).encode())
        for log in _card_logs(machine, settings):
            archive.add(log, f"{path.name.removesuffix('.tar.gz')}/card/{log.name}")
    return path


def scrub(text: str, secrets: Sequence[str]) -> str:
    """``text`` without the secrets we know, and without what looks like one."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return _SECRETS.sub(lambda found: found[1] + _HIDDEN, text)


def known_secrets(settings: Settings) -> list[str]:
    """Every secret of the settings and of the data directory, longest first."""
    values = [settings.api_key, settings.redis_url]
    found = {value.get_secret_value() for value in values if value is not None}
    for path in settings.data_dir.glob("*-password"):
        found.add(path.read_text("utf-8", "replace").strip())
    return sorted(filter(None, found), key=len, reverse=True)


def _parts(machine: Machine, settings: Settings) -> Iterator[tuple[str, str]]:
    groups = list(examine(machine, settings))
    yield "findings.json", json.dumps(as_data(groups), ensure_ascii=False, indent=2)
    yield "findings.txt", "".join(map(Page(100, colour=False).group, groups))
    yield "settings.json", json.dumps(settings.redacted(), indent=2)
    yield "config.txt", f"{config_file() or 'no configuration file'}\n"
    yield "python.txt", "\n".join(sorted(f"{each.name}=={each.version}" for each in distributions())) + "\n"
    for name, command in _COMMANDS.items():
        if ran := machine.run(*command):
            yield name, ran.output
    if ran := machine.run("dmesg"):
        yield "kernel.txt", "".join(line for line in ran.output.splitlines(True) if _KERNEL.search(line))
    for name in ("/boot/firmware/config.txt", "/boot/firmware/cmdline.txt", "/proc/meminfo"):
        if text := machine.text(name):
            yield f"machine/{Path(name).name}", text
    for log in (*sorted((settings.data_dir / "logs").glob("*.log")), machine.path("/tmp/axcl/axcl_logs.txt")):  # noqa: S108
        if text := _tail(log):
            yield f"logs/{log.name}", text


def _card_logs(machine: Machine, settings: Settings) -> Iterator[Path]:
    """What the card's own tool collects from it."""
    program = find_smi(settings.axcl.smi, machine.root)
    if program is None:
        return
    with tempfile.TemporaryDirectory() as place:
        smi = Smi(program, lock_path(settings), timeout_s=ASK_S)
        try:
            smi.run("log", "-d", "0", "-o", place, timeout_s=_LOG_S)
        except SmiError as error:
            note = Path(place) / "missing.txt"
            note.write_text(f"{error}\n")
        yield from sorted(Path(place).iterdir())


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    stem = Path(str(archive.name)).name.removesuffix(".tar.gz")
    entry = tarfile.TarInfo(f"{stem}/{name}")
    entry.size, entry.mtime = len(data), int(time.time())
    archive.addfile(entry, io.BytesIO(data))
