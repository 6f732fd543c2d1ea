from __future__ import annotations

import time
from pathlib import Path

from hardware.virtual.clock import SystemClock


def test_the_machines_clocks_agree_with_pythons() -> None:
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 1
    first = clock.steady()
    clock.sleep(0.001)
    assert clock.steady() > first


def test_the_boot_id_is_the_kernels() -> None:
    text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert SystemClock().boot_id.hex() == text.replace("-", "")
