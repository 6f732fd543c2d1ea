"""Booting a lost card anew, from a process that has nothing to lose (``python -m hardware.reboot``).

Whoever owned the card is stuck in a call or has left, and its process is poisoned. So a fresh one asks:
through the runtime where that has the function, else through ``axcl-smi``. One attempt; who calls it spaces
them out.
"""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from hardware.axcl.card import device_path
from hardware.axcl.codes import Doing
from hardware.axcl.library import Library, ffi
from hardware.axcl.session import config_file
from hardware.card import CardInfo
from hardware.errors import CardLost, HardwareError
from hardware.health import smi_tool
from hardware.smi.tool import SmiError

SMI_LIMIT_S = 60.0


def reboot(config: Settings, info: CardInfo) -> str:
    """Boot the card anew; how that was done. It takes a minute until the card shows again.

    Raises:
        CardLost: it did not work, or the settings forbid it; the message says what each way said.
    """
    how = config.axcl.reboot
    if how == "off":
        raise CardLost(f"{info.id} is not booted anew: HEARTH_AXCL__REBOOT is off")
    problems = []
    for name, way in (("api", _by_runtime), ("smi", _by_tool)):
        if how in ("auto", name):
            try:
                return way(config, info)
            except (HardwareError, SmiError) as error:
                problems.append(str(error))
    raise CardLost(f"{info.id} could not be booted anew: {'; '.join(problems)}")


def _by_runtime(config: Settings, info: CardInfo) -> str:
    library = Library(config.axcl.library)
    if not library.has("axclrtRebootDevice"):
        raise CardLost(f"{library.path} has no axclrtRebootDevice")
    told = config_file(config.axcl, config.card_state_dir)
    library.call("axclInit", ffi.NULL if told is None else str(told).encode(), doing=Doing.OPENING)
    # No axclFinalize: it may wait for a device that answers nobody. The end of the process does as much.
    device = _device(library, config.card_state_dir, info)
    library.call("axclrtRebootDevice", device, doing=Doing.REBOOTING)
    return f"device {device} was booted anew by axclrtRebootDevice"


def _by_tool(config: Settings, info: CardInfo) -> str:
    # Without a device the tool takes the first one; what its option counts changed with V2.26.
    device = () if info.index == 0 else ("-d", str(info.index))
    text = smi_tool(config).run("reboot", *device, answer="y\n", timeout_s=SMI_LIMIT_S)
    if "success" not in text:
        raise SmiError(f"axcl-smi did not boot it anew: {text.strip()[-200:]}")
    return f"card {info.index} was booted anew by axcl-smi"


def _device(library: Library, directory: Path, info: CardInfo) -> int:
    """The device's id: from the runtime's list, or as it was when the card was last opened.

    A device that has left the bus is not in the list any more.
    """
    try:
        devices = library.devices()
    except CardLost:
        devices = []
    try:
        known = int(device_path(directory, info).read_text())
    except (OSError, ValueError):
        known = None
    if known is not None and (known in devices or len(devices) <= info.index):
        return known
    if info.index < len(devices):
        return devices[info.index]
    bus = info.bus_id.split(":")
    if len(bus) > 1:
        return int(bus[-2], 16)  # what AXCL calls a device is the number of its bus
    raise CardLost(f"nobody knows what the runtime calls {info.id}: it was never opened here")
