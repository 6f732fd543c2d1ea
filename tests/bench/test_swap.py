"""The benchmark's own promises, on fewer jobs."""

from __future__ import annotations

import pytest

from bench.swap import House, arrivals, figures_of


@pytest.mark.parametrize("burst", [False, True], ids=["poisson", "burst"])
def test_steering_saves_swaps_and_passes_nobody_over_for_long(burst: bool) -> None:
    jobs = arrivals(100, seed=7, burst=burst)
    told = figures_of(jobs, House(jobs).run())
    assert told["swaps"] * 5 <= told["fcfs_swaps"]
    assert told["worst_passed_over_s"] <= told["bound_s"] + told["longest_job_s"]
    assert told["eta_error_median"] <= 0.2
