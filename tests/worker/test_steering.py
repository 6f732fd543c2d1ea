from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.jobs import QueueName
from worker.steering import Facts, level, queues_of


def names(*queues: str) -> frozenset[QueueName]:
    return frozenset(QueueName(queue) for queue in queues)


ALL = names("batch.a", "chat.a", "image.a", "chat.b", "batch.b", "image.b")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(Facts(queues=names()), (), id="no queue, nothing to consume"),
        pytest.param(Facts(queues=ALL, held="thermal"), (), id="held consumes nothing"),
        pytest.param(
            Facts(queues=ALL),
            ("chat.a", "chat.b", "image.a", "image.b", "batch.a", "batch.b"),
            id="chat before image before batch, by name",
        ),
        pytest.param(
            Facts(queues=ALL, paused=frozenset({"chat.a", "batch.b", "chat.gone"})),
            ("chat.b", "image.a", "image.b", "batch.a"),
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
    assert queues_of(["m"], []) == names("chat.m", "image.m", "batch.m")


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
