"""Machines made of a directory: a Raspberry Pi with a card that is well, and what can be wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hardware.doctor.machine import Machine, Ran
from hardware.smi.text import complaint
from hardware.smi.tool import SmiError
from hardware.virtual.abi.options import SimOptions
from hardware.virtual.smi import Failed, Manners, Tool, write_script

KERNEL = "6.12.34+rpt-rpi-2712"
BUS = "0001:01:00.0"
GIB = 1 << 30
SDK = "V3.6.5_20250908154509"

_SLOT = f"sys/bus/pci/devices/{BUS}"
_MODULES = "".join(
    f"{name} 16384 1 - Live 0x0000000000000000 (O)\n"
    for name in ("axcl_host", "ax_pcie_p2p_rc", "ax_pcie_mmb", "ax_pcie_msg", "ax_pcie_host_dev")
)
PI: dict[str, str] = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/sys/kernel/osrelease": KERNEL + "\n",
    "proc/modules": _MODULES,
    f"lib/modules/{KERNEL}/modules.dep": "updates/dkms/axcl_host.ko.xz: updates/dkms/ax_pcie_msg.ko.xz\n",
    f"{_SLOT}/vendor": "0x1f4b\n",
    f"{_SLOT}/device": "0x0650\n",
    f"{_SLOT}/current_link_speed": "5.0 GT/s PCIe\n",
    f"{_SLOT}/current_link_width": "1\n",
    f"{_SLOT}/max_link_speed": "5.0 GT/s PCIe\n",
    f"{_SLOT}/max_link_width": "2\n",
    "sys/bus/pci/devices/0002:01:00.0/vendor": "0x1de4\n",
    "sys/bus/pci/devices/0002:01:00.0/device": "0x0001\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "dev/axcl_host": "",
    "dev/msg_userdev": "",
    "dev/ax_mmb_dev": "",
    "lib/firmware/axcl/ax650_card.pac": "firmware",
    "usr/lib/axcl/libaxcl_rt.so": "an ELF",
    "boot/firmware/config.txt": "[all]\ndtparam=pciex1\ndtoverlay=pciex1-compat-pi5,no-mip\n",
}


@dataclass
class Bench:
    """Builds machines below ``directory`` and remembers which commands were run."""

    directory: Path
    free_bytes: int | None = 50 * GIB
    architecture: str = "aarch64"
    python: tuple[int, int] = (3, 11)
    outputs: dict[str, Ran] = field(default_factory=dict)
    """What commands say, by a word of their command line."""
    ran: list[str] = field(default_factory=list)
    options: SimOptions = field(default_factory=SimOptions)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def sim(self) -> Path:
        return self.directory / "sim"

    def machine(self) -> Machine:
        return Machine(
            root=self.root,
            command=self._run,
            free=lambda _: self.free_bytes,
            architecture=self.architecture,
            python=self.python,
        )

    def raspberry_pi(self) -> Bench:
        """All that a Pi with a card has. The tool is the stand-in."""
        for name, text in PI.items():
            self.write(name, text)
        self.tool(SDK)
        self.outputs |= {
            "vcgencmd": Ran(0, "2025/05/08 15:13:17\nversion 69471177 (release)\n"),
            "libaxcl_rt.so": Ran(0, SDK + "\n"),
            "dmesg": Ran(0, "[    9.1] [heartbeat_recv_thread, 555]: device 1: alive!\n"),
        }
        return self

    def tool(
        self, sdk: str, *, devices: int = 1, manners: Manners | None = None, driver: bool = True
    ) -> None:
        self.options = SimOptions(state=self.sim, sdk=sdk, devices=devices, has_driver=driver)
        write_script(self.root / "usr/bin/axcl", self.options, manners)

    def table(self) -> str:
        """What the stand-in prints, without a process for it, which takes a second. Raises SmiError."""
        try:
            return Tool(self.options).run([])
        except Failed as failure:
            raise SmiError(f"axcl-smi: {complaint(str(failure))}") from None

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def remove(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _run(self, command: Sequence[str], timeout_s: float) -> Ran | None:
        line = " ".join(command)
        self.ran.append(line)
        return next((ran for word, ran in self.outputs.items() if word in line), None)


Damage = Callable[[Bench], None]
