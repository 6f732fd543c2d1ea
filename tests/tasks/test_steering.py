from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.jobs import QueueName
from tasks.steering import BATCH_BOUND_MS, Facts, after_loading, bound_ms, due_ms, level, model_of, queues_of


def names(*queues: str) -> frozenset[QueueName]:
    return frozenset(QueueName(queue) for queue in queues)


ALL = names("priority.b", "batch.a", "chat.a", "image.a", "chat.b", "batch.b", "image.b")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(Facts(queues=names()), (), id="no queue, nothing to consume"),
        pytest.param(Facts(queues=ALL, held="thermal"), (), id="held consumes nothing"),
        pytest.param(
            Facts(queues=ALL),
            ("priority.b", "chat.a", "chat.b", "image.a", "image.b", "batch.a", "batch.b"),
            id="priority before chat before image before batch, by name",
        ),
        pytest.param(
            Facts(queues=ALL, paused=frozenset({"chat.a", "batch.b", "chat.gone"})),
            ("priority.b", "chat.b", "image.a", "image.b", "batch.a"),
            id="paused queues are left out",
        ),
        pytest.param(
            Facts(queues=names("chat.a", "chat.b", "batch.a"), oldest_ready_ms={"chat.b": 5, "batch.a": 1}),
            ("chat.b", "chat.a", "batch.a"),
            id="the longest wait comes first, within its class",
        ),
    ],
)
def test_level(facts: Facts, expected: tuple[str, ...]) -> None:
    assert level(facts) == expected


def test_a_model_has_a_queue_per_class_before_its_first_job() -> None:
    assert queues_of(["m"], []) == names("priority.m", "chat.m", "image.m", "batch.m")


def test_queues_of_models_that_left_the_catalog_are_still_served() -> None:
    assert "chat.old" in queues_of([], ["chat.old"])


def test_a_queue_that_is_not_ours_is_not_served() -> None:
    assert queues_of([], ["monitor", "celery", "chats.x"]) == frozenset()


queue_sets = st.frozensets(
    st.builds(
        lambda c, m: QueueName(f"{c}.{m}"),
        st.sampled_from(["chat", "image", "batch"]),
        st.sampled_from(["a", "b", "qwen3-0.6b", "x.y"]),
    )
)


@given(
    queue_sets,
    queue_sets,
    st.dictionaries(st.sampled_from(["chat.a", "chat.b", "batch.a"]), st.integers(0, 9)),
)
def test_every_unpaused_queue_is_served_exactly_once_in_class_order(
    queues: frozenset[QueueName], paused: frozenset[QueueName], oldest: dict[str, int]
) -> None:
    order = level(Facts(queues=queues, paused=paused, oldest_ready_ms=oldest))
    assert sorted(order) == sorted(queues - paused)
    places = [["chat", "image", "batch"].index(name.split(".")[0]) for name in order]
    assert places == sorted(places)


TIGHT = Facts(
    queues=names("chat.a", "batch.a", "chat.b", "image.b"),
    residents=("a",),
    load_ms={"a": 20_000.0, "b": 88_000.0},
    needs_bytes={"a": 60, "b": 60},
    capacity_bytes=100,
    now_ms=1_000_000.0,
)
"""Two models that do not fit the card together; one of them is on it."""


def ago(seconds: float) -> int:
    return int(TIGHT.now_ms - seconds * 1000)


@pytest.mark.parametrize(
    ("oldest", "left_ago_s", "served"),
    [
        pytest.param(
            {}, None, ("chat.a", "batch.a", "chat.b", "image.b"), id="idle: all, those at hand first"
        ),
        pytest.param(
            {"chat.a": ago(1), "chat.b": ago(50)}, None, ("chat.a", "batch.a"), id="no swap for age"
        ),
        pytest.param(
            {"batch.a": ago(1), "chat.b": ago(50)}, None, ("batch.a", "chat.a")[::-1], id="nor for class"
        ),
        pytest.param(
            {"chat.b": ago(1)}, None, ("chat.a", "batch.a", "chat.b", "image.b"), id="no work at hand: a swap"
        ),
        pytest.param(
            {"chat.a": ago(1), "chat.b": ago(108)},
            None,
            ("chat.b", "image.b"),
            id="passed over for its bound",
        ),
        pytest.param(
            {"chat.a": ago(1), "chat.b": ago(500)},
            107.9,
            ("chat.a", "batch.a"),
            id="it has only just left the card",
        ),
        pytest.param(
            {"chat.a": ago(1), "chat.b": ago(500)}, 108, ("chat.b", "image.b"), id="it left long ago"
        ),
    ],
)
def test_a_swap_is_made_when_nothing_else_waits_or_another_waited_too_long(
    oldest: dict[str, int], left_ago_s: float | None, served: tuple[str, ...]
) -> None:
    left = {} if left_ago_s is None else {"b": float(ago(left_ago_s))}
    assert level(replace(TIGHT, oldest_ready_ms=oldest, left_ms=left)) == served


def test_batch_jobs_wait_longer_for_a_swap() -> None:
    facts = replace(
        TIGHT,
        queues=names("chat.a", "batch.b"),
        oldest_ready_ms={"chat.a": ago(1), "batch.b": ago(599)},
    )
    assert level(facts) == ("chat.a",)
    assert bound_ms("batch.b", facts) == BATCH_BOUND_MS
    assert level(replace(facts, now_ms=facts.now_ms + 1001)) == ("batch.b",)


def test_short_loads_are_bounded_by_a_minute() -> None:
    facts = replace(TIGHT, load_ms={"a": 1000.0, "b": 2000.0}, oldest_ready_ms={"chat.b": ago(0)})
    assert due_ms("chat.b", facts) == facts.now_ms + 60_000


def test_models_that_fit_together_need_no_swap() -> None:
    roomy = replace(TIGHT, capacity_bytes=120, oldest_ready_ms={"batch.a": ago(1), "chat.b": ago(0)})
    assert level(roomy)[0] == "chat.b"
    assert after_loading("b", roomy) == ("a", "b")


def test_what_was_used_least_leaves_first() -> None:
    facts = replace(TIGHT, residents=("x", "y"), needs_bytes={"x": 40, "y": 40, "z": 50}, capacity_bytes=100)
    assert after_loading("z", facts) == ("y", "z")
    assert after_loading("x", facts) == ("y", "x")


def test_without_word_of_the_card_every_model_counts_as_there() -> None:
    assert set(level(replace(TIGHT, residents=None))) == set(TIGHT.queues)


@given(
    st.dictionaries(st.sampled_from(sorted(TIGHT.queues)), st.integers(0, 1_000_000)),
    st.dictionaries(st.sampled_from("ab"), st.floats(0, 1_000_000)),
    st.sampled_from([(), ("a",), ("b",)]),
)
def test_where_there_is_work_some_is_served_and_nothing_overdue_is_passed_over(
    oldest: dict[str, int], left: dict[str, float], residents: tuple[str, ...]
) -> None:
    facts = replace(TIGHT, oldest_ready_ms=oldest, left_ms=left, residents=residents)
    served = level(facts)
    assert not oldest or set(served) & set(oldest)
    overdue = {
        model_of(name)
        for name in oldest
        if model_of(name) not in residents and due_ms(name, facts) <= facts.now_ms
    }
    if residents and overdue:
        assert {model_of(name) for name in served} <= overdue
