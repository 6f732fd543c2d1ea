"""Booting a lost card anew, from processes that have nothing to lose (``python -m hardware.reboot``).

Whoever owned the card is stuck in a call or has left, and its process is poisoned. So a fresh one asks:
through the runtime where that has the function, else through ``axcl-smi``. The runtime is asked by a process
of its own, since a dead card may not let go of it either. One attempt; who calls it spaces them out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from config.groups import AxclSettings
from config.settings import Settings
from hardware.axcl.card import device_path
from hardware.axcl.codes import Doing
from hardware.axcl.library import Library, ffi
from hardware.axcl.session import config_file
from hardware.card import CardInfo
from hardware.errors import CardLost, HardwareError
from hardware.health import smi_tool
from hardware.smi.tool import SmiError

API_LIMIT_S, SMI_LIMIT_S = 25.0, 30.0
"""Together less than what ``hardware.reboot.LIMIT_S`` allows."""


def reboot(config: Settings, info: CardInfo, *, api_limit_s: float = API_LIMIT_S) -> str:
    """Boot the card anew; how that was done. It takes a minute until the card shows again.

    Raises:
        CardLost: it did not work, or the settings forbid it; the message says what each way said.
    """
    how = config.axcl.reboot
    if how == "off":
        raise CardLost(f"{info.id} is not booted anew: HEARTH_AXCL__REBOOT is off")
    problems = []
    if how in ("auto", "api"):
        try:
            return _by_runtime(config, info, api_limit_s)
        except CardLost as error:
            problems.append(str(error))
    if how in ("auto", "smi"):
        try:
            return _by_tool(config, info)
        except SmiError as error:
            problems.append(str(error))
    raise CardLost(f"{info.id} could not be booted anew: {'; '.join(problems)}")


def _by_runtime(config: Settings, info: CardInfo, limit_s: float) -> str:
    directory = str(config.card_state_dir)
    told = {"axcl": config.axcl.model_dump(mode="json"), "directory": directory, "info": asdict(info)}
    command = [sys.executable, "-m", "hardware.axcl.reboot", json.dumps(told)]
    try:
        done = subprocess.run(command, timeout=limit_s, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        raise CardLost(f"axclrtRebootDevice gave no answer in {limit_s:g} s") from None
    if done.returncode:
        raise CardLost(done.stderr.strip()[-500:] or f"the runtime ended with status {done.returncode}")
    return done.stdout.strip()


def call_runtime(options: AxclSettings, directory: Path, info: CardInfo) -> str:
    """Have the runtime boot the card anew; what was done. May never return. Raises HardwareError."""
    library = Library(options.library)
    if not library.has("axclrtRebootDevice"):
        raise CardLost(f"{library.path} has no axclrtRebootDevice")
    told = config_file(options, directory)
    library.call("axclInit", ffi.NULL if told is None else str(told).encode(), doing=Doing.OPENING)
    # No axclFinalize: it may wait for a device that answers nobody. The end of the process does as much.
    device = _device(library, directory, info)
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


def main(text: str) -> int:
    told = json.loads(text)
    try:
        done = call_runtime(AxclSettings(**told["axcl"]), Path(told["directory"]), CardInfo(**told["info"]))
    except HardwareError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
