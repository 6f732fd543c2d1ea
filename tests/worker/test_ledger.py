from __future__ import annotations

import redis

from tasks import board, keys
from worker.ledger import Ledger


def test_a_model_counts_as_replaced_when_its_successor_is_ready() -> None:
    ledger = Ledger()
    ledger.brought("a", 20.0, ["a"], 1000.0)
    ledger.brought("b", 88.0, ["b"], 200_000.0)
    assert ledger.left_ms == {"a": 200_000.0}
    assert ledger.load_ms == {"a": 20_000.0, "b": 88_000.0}
    ledger.brought("c", 1.0, ["b", "c"], 300_000.0)
    assert ledger.left_ms == {"a": 200_000.0}


def test_a_new_owner_goes_on_with_what_the_last_one_knew(store: redis.Redis) -> None:
    told = board.Residents(1, "c0", "", "", "", True, 0, left_ms={"a": 5.0}, load_ms={"a": 20.0})
    store.set(keys.residents("c0"), board.encode(told))
    ledger = Ledger.going_on(store, "c0")
    assert (ledger.left_ms, ledger.load_ms) == ({"a": 5.0}, {"a": 20.0})
    assert Ledger.going_on(store, "c1") == Ledger()
