"""The seam over the vendor's Python package, against a module of its shape and with its faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.axengine import AxengineCard, axengine_info, is_usable
from hardware.card import KvWrite, Mix, Prefill
from hardware.errors import CardBusy, CardLost, FeedMismatch, GraphRejected
from tests.hardware import fake_axengine, graphs

A = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_axengine.install(monkeypatch)


@pytest.fixture
def card(module: Any, tmp_path: Path) -> Iterator[AxengineCard]:
    with AxengineCard(tmp_path / "card", axengine_info(1)) as opened:
        yield opened


def test_it_keeps_nothing_on_the_card_and_says_so(card: AxengineCard) -> None:
    traits = card.traits
    assert not traits.resident_buffers
    assert (traits.kv_write, traits.prefill, traits.mix) == (KvWrite.COPY, Prefill.DECODE, Mix.RESTART)
    assert (card.info.id, card.info.is_virtual) == ("axengine-1", False)


def test_a_network_runs_in_all_its_groups_and_prints_nothing(
    card: AxengineCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    assert [group.inputs[0].shape for group in graph.groups] == [(1, 4), (1, 8)]
    assert graph.run({"a": A, "b": A}, timeout_s=5)["sum"].tolist() == [[0, 2, 4, 6]]
    wide = np.ones((1, 8), np.float32)
    assert graph.run({"a": wide, "b": wide}, group=1, timeout_s=5)["sum"].tolist() == [[2] * 8]
    assert capsys.readouterr().out == ""
    # The device by its number, which only one of two ways of saying it reaches.
    assert fake_axengine.InferenceSession.devices == [1]
    assert (card.counters.h2d_bytes, card.counters.d2h_bytes, card.counters.executes) == (96, 48, 2)


def test_strides_do_not_reach_the_package(card: AxengineCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    strided = np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::2]
    assert graph.run({"a": strided, "b": A}, timeout_s=5)["sum"].tolist() == [[0, 3, 6, 9]]


def test_what_its_asserts_would_let_through_is_refused(card: AxengineCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    wrong: list[dict[str, Any]] = [{"a": A}, {"a": A, "b": A, "c": A}, {"a": A, "b": A.astype(np.float64)}]
    for feeds in wrong:
        with pytest.raises(FeedMismatch):
            graph.run(feeds, timeout_s=5)


def test_steps_work_on_memory_of_the_host(card: AxengineCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    one, other = card.allocate(32), card.allocate(16)
    assert one.read(0, 32) == bytes(32)
    step = graph.bind(0, {"a": one.view(0, 16), "b": one.view(16)}, {"sum": other.view()})
    one.write(A, 16)
    card.execute([step], timeout_s=5)
    assert np.frombuffer(other.read(0, 16), np.float32).tolist() == A[0].tolist()
    one.copy_from(other.view())
    card.execute([step], timeout_s=5)
    target = np.empty(4, np.float32)
    other.read_into(target)
    assert target.tolist() == (2 * A[0]).tolist()
    with pytest.raises(FeedMismatch, match="overlaps"):
        step.rebind("sum", one.view(0, 16))
    with pytest.raises(FeedMismatch, match="bytes; the view has"):
        step.rebind("sum", one.view())
    one.close()
    with pytest.raises(FeedMismatch, match="closed"):
        card.execute([step], timeout_s=5)


def test_closing_gives_back_what_the_package_keeps(module: Any, card: AxengineCard, tmp_path: Path) -> None:
    free_bytes = card.memory().free_bytes
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    (inner,) = module._all_model_instances
    assert card.memory().free_bytes < free_bytes
    graph.close()
    graph.close()
    assert module._all_model_instances == []
    assert not inner.loaded
    assert card.memory().free_bytes == free_bytes
    with pytest.raises(FeedMismatch, match="closed"):
        graph.run({"a": A, "b": A}, timeout_s=5)


def test_a_run_that_fails_loses_the_card_with_a_code_one_can_look_up(
    module: Any, card: AxengineCard, tmp_path: Path
) -> None:
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    module.fails = 0x8030070C - (1 << 32)
    with pytest.raises(CardLost, match="0x8030070c"):
        graph.run({"a": A, "b": A}, timeout_s=5)
    module.fails = 0
    with pytest.raises(CardLost, match="is lost"):
        card.memory()


def test_files_that_are_no_graphs_are_rejected(card: AxengineCard, tmp_path: Path) -> None:
    for name, content in (("missing", None), ("empty", b""), ("garbage", b"garbage")):
        path = tmp_path / f"{name}.axmodel"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(GraphRejected, match=name):
            card.load(path)


def test_without_the_package_it_is_not_offered_and_says_how_to_get_it(tmp_path: Path) -> None:
    assert not is_usable()
    for _ in range(2):  # the lock is free again after the first try
        with pytest.raises(CardLost, match="HEARTH_AXENGINE_WHEEL"):
            AxengineCard(tmp_path, axengine_info(0))


def test_it_has_one_owner(card: AxengineCard, tmp_path: Path) -> None:
    with pytest.raises(CardBusy):
        AxengineCard(tmp_path / "card", axengine_info(1))
