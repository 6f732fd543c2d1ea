from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pace import LEAST_REST_S, MOST_REST_S, Pace


def working(pace: Pace, duty: float, steps: int, step_s: float, now: float = 0.0) -> tuple[float, float]:
    """So many steps, resting as told: seconds worked, seconds rested."""
    rested_s = 0.0
    pace.rest_s(duty, now)
    for _ in range(steps):
        now += step_s
        rest_s = pace.rest_s(duty, now)
        now += rest_s
        rested_s += rest_s
        pace.rested(now)
    return steps * step_s, rested_s


@given(st.floats(0.1, 0.99), st.floats(0.001, 2.0), st.integers(10, 200))
def test_the_card_works_the_share_that_it_may(duty: float, step_s: float, steps: int) -> None:
    worked_s, rested_s = working(Pace(), duty, steps, step_s)
    assert rested_s == pytest.approx(worked_s * (1 / duty - 1), abs=LEAST_REST_S + 1e-6)


def test_what_was_worked_before_the_order_is_not_paid_for() -> None:
    pace = Pace()
    pace.begin(0.0)
    assert pace.rest_s(0.5, 600.0) == 0.0
    assert pace.rest_s(0.5, 601.0) == pytest.approx(1.0)


def test_one_job_pays_for_the_last_step_of_the_one_before() -> None:
    pace = Pace()
    pace.begin(0.0)
    pace.rest_s(0.5, 0.0)
    pace.end(8.0)
    pace.begin(9.0)
    assert pace.rest_s(0.5, 9.0) == pytest.approx(7.0)  # 8 s of work, less the second that nobody worked


def test_an_idle_card_has_rested() -> None:
    pace = Pace()
    pace.begin(0.0)
    pace.rest_s(0.5, 0.0)
    pace.end(8.0)
    pace.begin(60.0)
    assert pace.rest_s(0.5, 60.0) == 0.0


def test_a_long_call_is_not_paid_for_in_full() -> None:
    pace = Pace()
    pace.rest_s(0.1, 0.0)
    assert pace.rest_s(0.1, 100.0) == MOST_REST_S


def test_without_an_order_nothing_is_owed() -> None:
    pace = Pace()
    pace.rest_s(0.5, 0.0)
    pace.rest_s(0.5, 0.01)
    assert not pace.is_full
    assert pace.rest_s(None, 5.0) == 0.0
    assert pace.is_full
