from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks import steering
from tasks.eta import Forecast, Pace, Waiting, brought, forecast
from tasks.jobs import QueueName
from tasks.steering import Facts, model_of

QUEUES = ("chat.a", "batch.a", "chat.b", "image.b", "chat.c")
PACE = Pace({"chat.a": 2000.0, "chat.b": 3000.0, "batch.a": 5000.0})
TIGHT = Facts(
    queues=frozenset(QueueName(name) for name in QUEUES),
    residents=("a",),
    load_ms={"a": 20_000.0, "b": 88_000.0},
    needs_bytes={"a": 60, "b": 60},
    capacity_bytes=100,
)


def jobs(prefix: str, count: int, ready_ms: float = 0.0) -> list[Waiting]:
    return [Waiting(f"{prefix}{number}", ready_ms + number / 1024) for number in range(count)]


def test_jobs_of_one_queue_follow_one_another() -> None:
    found = forecast(TIGHT, {"chat.a": jobs("a", 3)}, PACE, 500.0)
    assert [each.starts_ms for each in found.values()] == [500.0, 2500.0, 4500.0]
    assert [each.place for each in found.values()] == [1, 2, 3]
    assert all(each.is_measured for each in found.values())


def test_a_swap_costs_its_load_once() -> None:
    found = forecast(TIGHT, {"chat.a": jobs("a", 1), "chat.b": jobs("b", 2)}, PACE, 0.0)
    assert found["b0"] == Forecast(2000.0, 93_000.0, 2, True)
    assert found["b1"] == Forecast(93_000.0, 96_000.0, 3, True)


def test_a_model_that_was_passed_over_comes_in_between() -> None:
    found = forecast(TIGHT, {"chat.a": jobs("a", 100), "chat.b": jobs("b", 1)}, PACE, 0.0)
    assert found["b0"].starts_ms == 108_000.0
    assert found["b0"].place == 55
    assert found["a54"].starts_ms == 199_000.0 + 0.0


def test_a_warm_card_takes_longer() -> None:
    found = forecast(TIGHT, {"chat.a": jobs("a", 1)}, replace(PACE, duty=0.5), 0.0)
    assert found["a0"].ends_ms == 4000.0


def test_what_was_never_measured_is_guessed_and_says_so() -> None:
    found = forecast(TIGHT, {"image.b": jobs("i", 1)}, PACE, 0.0)
    assert not found["i0"].is_measured


def test_of_a_held_card_nothing_is_known() -> None:
    assert forecast(replace(TIGHT, held="thermal"), {"chat.a": jobs("a", 1)}, PACE, 0.0) == {}


waiting_queues = st.dictionaries(
    st.sampled_from(QUEUES), st.lists(st.integers(0, 300_000), min_size=1, max_size=25), max_size=4
)


@given(waiting_queues, st.sampled_from([None, (), ("a",), ("b",)]))
def test_the_forecast_is_what_asking_the_rule_for_each_job_would_give(
    ready: dict[str, list[int]], residents: tuple[str, ...] | None
) -> None:
    facts = replace(TIGHT, residents=residents, now_ms=300_000.0)
    waiting = {
        name: [Waiting(f"{name}{number}", at_ms) for number, at_ms in enumerate(sorted(times))]
        for name, times in ready.items()
    }
    assert forecast(facts, waiting, PACE, 0.0) == one_by_one(facts, waiting)


def one_by_one(facts: Facts, waiting: dict[str, list[Waiting]]) -> dict[str, Forecast]:
    """The same without any shortcut."""
    left = {name: list(each) for name, each in waiting.items()}
    found: dict[str, Forecast] = {}
    now_ms = facts.now_ms
    while any(left.values()):
        oldest = {name: int(each[0].ready_ms) for name, each in left.items() if each}
        facts = replace(facts, now_ms=now_ms, oldest_ready_ms=oldest)
        queue = next(name for name in steering.level(facts) if name in oldest)
        facts, load_ms = brought(model_of(queue), facts)
        ends_ms = now_ms + load_ms + PACE.of(queue)
        job = left[queue].pop(0)
        found[job.id] = Forecast(now_ms, ends_ms, len(found) + 1, queue in PACE.run_ms)
        now_ms = ends_ms
    return found
