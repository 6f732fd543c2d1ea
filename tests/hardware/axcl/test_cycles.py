"""Loading and unloading, over and over: nothing stays behind, on the card or here."""

from __future__ import annotations

import gc
from itertools import pairwise
from pathlib import Path

import numpy as np

from hardware.axcl.card import AxclCard
from hardware.virtual.abi import host
from tests.hardware import graphs

WARM_UP, WINDOW, WINDOWS = 50, 40, 5
"""A thousand cycles were tried as well: they add 0.1 KiB each behind the warm-up."""
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
    handles, sizes_kib = [], []
    for cycle in range(WARM_UP + WINDOWS * WINDOW + 1):
        if cycle >= WARM_UP and (cycle - WARM_UP) % WINDOW == 0:
            sizes_kib.append(resident_kib())
            handles.append([len(each) for each in (runtime._models, runtime._infos, runtime._ios)])
        graph = card.load(path)
        graph.run({"x": ONES}, timeout_s=5)
        graph.close()
    assert (card.memory().free_bytes, device._arena.used_bytes) == before_bytes
    assert handles == [[0, 0, 0]] * (WINDOWS + 1)
    # What stays shows in every window; what a long test process does beside shows in some. A session of
    # onnxruntime that stayed is several times this.
    assert min(after - before for before, after in pairwise(sizes_kib)) < 10 * WINDOW
