"""The promise of all promises: an accepted job ends, once, whatever dies meanwhile."""

from __future__ import annotations

import secrets
import sys

import pytest

from bench.chaos import ENOUGH, JOBS, rampage


@pytest.mark.timeout(420)
def test_no_job_is_lost_while_everything_is_killed() -> None:
    seed = secrets.randbelow(2**31)
    figures, verdict, _ = rampage(JOBS, seed, limit_s=60.0)
    sys.stderr.write(f"{figures}\n")  # shown when it fails: with the seed it can be looked at again
    assert figures["jobs"] == JOBS, "some were never accepted"
    assert figures["kills"] >= 5
    assert verdict.complaints() == []
    assert figures["succeeded"] >= ENOUGH * JOBS
