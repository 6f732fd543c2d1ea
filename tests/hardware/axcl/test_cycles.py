"""Loading and unloading, over and over: nothing stays behind, on the card or here."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from hardware.axcl.card import AxclCard
from hardware.virtual.abi import host
from tests.hardware import graphs

WARM_UP, CYCLES = 50, 200
"""A thousand were tried as well: 20 s on a busy machine."""
ONES = np.ones((1, 4), np.float32)


def resident_kib() -> int:
    gc.collect()
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1])


def test_many_loads_leave_nothing_behind(card: AxclCard, tmp_path: Path) -> None:
    path = graphs.doubler(tmp_path / "tiny.axmodel")
    device = host.runtime()._device(1)
    runtime = host.runtime()
    before_bytes = card.memory().free_bytes, device._arena.used_bytes
    handles, start_kib = [], 0
    for cycle in range(WARM_UP + CYCLES):
        if cycle == WARM_UP:
            start_kib = resident_kib()
        graph = card.load(path)
        graph.run({"x": ONES}, timeout_s=5)
        graph.close()
        if cycle in (WARM_UP, WARM_UP + CYCLES - 1):
            handles.append([len(each) for each in (runtime._models, runtime._infos, runtime._ios)])
    assert (card.memory().free_bytes, device._arena.used_bytes) == before_bytes
    assert handles == [[0, 0, 0]] * 2
    # A session of onnxruntime that stayed is several times this, and pytest itself takes some.
    assert resident_kib() - start_kib < 20 * CYCLES
