"""A short version of the benchmark: the governor keeps simulated cards cool, and busy."""

from __future__ import annotations

import pytest

from bench.thermal import MOST_C, Scene, drawn, simulate
from config.groups import ThermalSettings
from hardware.virtual.thermal import Body

LIMITS = ThermalSettings()


def test_easing_does_more_work_than_holding_with_fewer_holds() -> None:
    scene = Scene(40.0, hours=1.5)
    eased, plain = (simulate(scene, LIMITS, eases=eases) for eases in (True, False))
    assert plain.holds > 3, "the room was not warm enough to tell anything"
    assert eased.holds < plain.holds
    assert eased.jobs >= plain.jobs
    assert max(eased.max_c, plain.max_c) <= MOST_C


def test_a_cool_room_costs_nothing() -> None:
    scene = Scene(20.0, hours=0.5)
    eased, plain = (simulate(scene, LIMITS, eases=eases) for eases in (True, False))
    assert eased == plain
    assert eased.holds == 0


@pytest.mark.parametrize("number", range(4))
def test_a_card_of_any_constants_stays_below_the_bound(number: int) -> None:
    scene = drawn(number)
    outcome = simulate(Scene(45.0, scene.body, hours=0.5, seed=number), LIMITS, eases=True)
    assert outcome.max_c <= MOST_C


def test_without_a_governor_the_hot_room_would_be_too_hot() -> None:
    idle = ThermalSettings(ease_c=117, hold_c=118, unload_c=119, resume_c=116)
    assert simulate(Scene(45.0, Body(), hours=0.5), idle, eases=True).max_c > MOST_C
