"""Faults on demand, and that a lost card stays lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from hardware.card import Buffer, Card, Graph, Step
from hardware.errors import CardLost, CardTimeout, GraphRejected, OutOfCardMemory
from hardware.virtual.card import VirtualCard
from hardware.virtual.format import encode_groups
from hardware.virtual.state import CardState, Fault
from tests.hardware import graphs
from tests.hardware.clock import FakeClock
from tests.hardware.conftest import OpenCard

ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def state(state_dir: Path) -> CardState:
    return CardState.open(state_dir)


def ready(card: VirtualCard, tmp_path: Path) -> tuple[Graph, Buffer, Step]:
    graph = card.load(graphs.doubler(tmp_path / "double.axmodel"))
    x, y = card.allocate(16), card.allocate(16)
    return graph, x, graph.bind(0, {"x": x.view()}, {"y": y.view()})


CALLS: dict[str, Callable[[Card, Graph, Buffer, Step], object]] = {
    "write": lambda card, graph, buffer, step: buffer.write(b"1"),
    "read": lambda card, graph, buffer, step: buffer.read(0, 1),
    "read_into": lambda card, graph, buffer, step: buffer.read_into(np.zeros(1, np.uint8)),
    "copy_from": lambda card, graph, buffer, step: buffer.copy_from(buffer.view(0, 8), 8),
    "allocate": lambda card, graph, buffer, step: card.allocate(1),
    "memory": lambda card, graph, buffer, step: card.memory(),
    "load": lambda card, graph, buffer, step: card.load(Path("anything")),
    "execute": lambda card, graph, buffer, step: card.execute([step], timeout_s=1),
    "run": lambda card, graph, buffer, step: graph.run({"x": ROW}, timeout_s=1),
    "bind": lambda card, graph, buffer, step: graph.bind(0, {}, {}),
    "rebind": lambda card, graph, buffer, step: step.rebind("x", buffer.view()),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_lost_card_answers_every_call_alike(
    card: VirtualCard, tmp_path: Path, state: CardState, call: str
) -> None:
    graph, buffer, step = ready(card, tmp_path)
    state.order(fault=Fault.LOST)
    with pytest.raises(CardLost, match="virtual-0 is lost: the device left the bus"):
        CALLS[call](card, graph, buffer, step)
    state.order(fault=Fault.NONE)
    for other in CALLS.values():
        with pytest.raises(CardLost, match="left the bus"):
            other(card, graph, buffer, step)


def test_closing_what_belonged_to_a_lost_card_is_harmless(
    card: VirtualCard, tmp_path: Path, state: CardState
) -> None:
    graph, buffer, _step = ready(card, tmp_path)
    state.order(fault=Fault.LOST)
    with pytest.raises(CardLost):
        card.allocate(1)
    buffer.close()
    graph.close()
    card.close()


def test_a_card_that_is_gone_cannot_be_opened_until_it_is_back(open_card: OpenCard, state: CardState) -> None:
    state.order(fault=Fault.LOST)
    with pytest.raises(CardLost):
        open_card()
    state.order(fault=Fault.NONE)
    open_card().allocate(1)


def test_a_card_that_hangs_gives_no_answer_until_the_timeout(
    open_card: OpenCard, clock: FakeClock, tmp_path: Path, state: CardState
) -> None:
    card = open_card(clock=clock)
    _graph, buffer, step = ready(card, tmp_path)
    state.order(fault=Fault.HANG)
    buffer.write(b"as before")
    began_s = clock.now_s
    with pytest.raises(CardTimeout, match="no answer within 12"):
        card.execute([step], timeout_s=12)
    assert clock.now_s - began_s == pytest.approx(12)
    state.order(fault=Fault.NONE)
    with pytest.raises(CardLost, match="no answer within 12"):
        card.execute([step], timeout_s=12)
    report = state.report()
    assert report is not None
    assert report.is_lost


def test_a_full_card_takes_nothing_more_and_works_on(
    card: VirtualCard, tmp_path: Path, state: CardState
) -> None:
    graph, _buffer, step = ready(card, tmp_path)
    state.order(fault=Fault.OOM)
    before = card.counters.executes
    with pytest.raises(OutOfCardMemory):
        card.allocate(1)
    with pytest.raises(OutOfCardMemory):
        card.load(graphs.adder(tmp_path / "add.axmodel"))
    card.execute([step], timeout_s=5)
    assert card.counters.executes == before + 1
    state.order(fault=Fault.NONE)
    card.allocate(1)
    graph.close()


def test_a_slow_card_takes_a_multiple_of_its_time(
    open_card: OpenCard, clock: FakeClock, tmp_path: Path, state: CardState
) -> None:
    card = open_card(clock=clock, timing="pi5")
    graph = card.load(graphs.adder(tmp_path / "add.axmodel", step_ms=9.54))
    state.order(fault=Fault.SLOW, slow_factor=7.0)
    graph.run({"a": ROW, "b": ROW}, timeout_s=5)
    assert card.counters.busy_s == pytest.approx(7 * 0.010)


def test_slowness_can_exceed_the_timeout(
    open_card: OpenCard, clock: FakeClock, tmp_path: Path, state: CardState
) -> None:
    card = open_card(clock=clock, timing="pi5")
    graph = card.load(graphs.adder(tmp_path / "add.axmodel", step_ms=1000))
    state.order(fault=Fault.SLOW, slow_factor=7.0)
    with pytest.raises(CardTimeout):
        graph.run({"a": ROW, "b": ROW}, timeout_s=5)


@pytest.mark.parametrize("fault", [Fault.HOT, Fault.BLIND])
def test_what_only_readings_show_does_not_disturb_the_work(
    card: VirtualCard, tmp_path: Path, state: CardState, fault: Fault
) -> None:
    state.order(fault=fault)
    _graph, buffer, step = ready(card, tmp_path)
    buffer.write(ROW)
    card.execute([step], timeout_s=5)


def test_an_execution_that_runs_too_long_is_stopped(card: VirtualCard, tmp_path: Path) -> None:
    """A real one: a loop of half a minute in onnxruntime, told to stop from the side."""
    graph = card.load(endless(tmp_path / "endless.axmodel"))
    began_s = time.monotonic()
    with pytest.raises(CardTimeout):
        graph.run({"x": ROW}, timeout_s=0.1)
    assert time.monotonic() - began_s < 10
    with pytest.raises(CardLost):
        card.allocate(1)


def endless(path: Path) -> Path:
    body = helper.make_graph(
        [
            helper.make_node("Sin", ["state"], ["next_state"]),
            helper.make_node("Identity", ["go"], ["still_go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("still_go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [1, 4]),
        ],
    )
    return graphs.save(
        path,
        [helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)],
        [("x", "f32", [1, 4])],
        [("y", "f32", [1, 4])],
        encode_groups([graphs.group(0, [("x", "f32", (1, 4))], [("y", "f32", (1, 4))])]),
        constants=[
            helper.make_tensor("turns", TensorProto.INT64, [], [1 << 40]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )


def test_a_rejected_graph_does_not_lose_the_card(card: VirtualCard, tmp_path: Path) -> None:
    (tmp_path / "bad.axmodel").write_bytes(b"bad")
    with pytest.raises(GraphRejected):
        card.load(tmp_path / "bad.axmodel")
    card.allocate(1)
