"""Every answer is one that the OpenAPI document allows. For longer: ``./hearth bench contract``."""

from __future__ import annotations

import sys

import pytest

from bench.contract import LENIENT, SHADED, TAKE_ALL, explore
from tests.api.conftest import Served
from tests.api.support import StandIn


@pytest.mark.timeout(240)
def test_the_api_keeps_to_its_own_document(served: Served, bulk_worker: StandIn) -> None:
    found = explore(served.url, examples=4, seed=20, phases=("examples", "coverage", "fuzzing"), brief=True)
    sys.stderr.write("".join(f"{fault}\n" for fault in found.faults.values()))  # shown when it fails
    assert not found.faults
    assert found.cases > 1000
    # What is excused, or held to more, is there by that name.
    known = set(found.names)
    assert {*TAKE_ALL, *LENIENT, *SHADED} <= known
