"""What a key has spent within a minute, and when it may go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.spending import WINDOW_S, Spent, below_in_s, total

jobs = st.lists(st.builds(Spent, st.floats(0, WINDOW_S - 0.001), st.integers(1, 5000)), max_size=30)


@given(jobs, st.integers(1, 20_000))
def test_after_the_wait_less_than_the_limit_is_left_and_not_before(spent: list[Spent], limit: int) -> None:
    wait_s = below_in_s(spent, limit)
    assert 0 <= wait_s <= WINDOW_S
    assert sum(each.tokens for each in spent if each.age_s + wait_s < WINDOW_S) < limit
    if wait_s:
        assert sum(each.tokens for each in spent if each.age_s + wait_s - 0.001 < WINDOW_S) >= limit
    else:
        assert total(spent) < limit


def test_the_oldest_go_first() -> None:
    spent = [Spent(10.0, 50), Spent(59.0, 60)]
    assert below_in_s(spent, 111) == 0
    assert below_in_s(spent, 60) == 1.0
    assert below_in_s(spent, 50) == 50.0
