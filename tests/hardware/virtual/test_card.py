"""The seam, as every engine relies on it: memory, transfers, counters, executing, closing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hardware.card import Card, Counters, KvWrite, Prefill, View
from hardware.errors import CardBusy, CardLost, FeedMismatch, GraphRejected, OutOfCardMemory
from hardware.virtual.arena import BASE_ADDRESS
from hardware.virtual.card import VirtualCard
from tests.hardware import graphs
from tests.hardware.conftest import OpenCard

MIB = 1 << 20


def f32(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_the_card_says_who_it_is(card: Card) -> None:
    assert card.info.id == "virtual-0"
    assert card.info.is_virtual
    assert card.info.memory_bytes == 64 * MIB
    assert card.info.firmware.startswith("onnxruntime ")
    assert card.traits.resident_buffers
    assert (card.traits.kv_write, card.traits.prefill) == (KvWrite.ROW, Prefill.CHUNK)


def test_memory_is_zero_and_has_the_cards_addresses(card: VirtualCard) -> None:
    buffer = card.allocate(5000)
    assert buffer.address == BASE_ADDRESS
    assert buffer.read(0, 5000) == bytes(5000)
    assert card.memory().free_bytes == 64 * MIB - 8192


def test_memory_that_comes_back_is_zero_again(card: VirtualCard) -> None:
    first = card.allocate(100)
    first.write(b"x" * 100)
    first.close()
    first.close()
    again = card.allocate(100)
    assert again.address == first.address
    assert again.read(0, 100) == bytes(100)


def test_a_full_card_refuses_and_keeps_nothing(card: VirtualCard) -> None:
    card.allocate(40 * MIB)
    before = card.memory()
    with pytest.raises(OutOfCardMemory):
        card.allocate(30 * MIB)
    assert card.memory() == before


def test_a_graph_takes_its_size_and_gives_it_back(card: VirtualCard, tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "add.axmodel")
    graph = card.load(path)
    assert card.memory().free_bytes == 64 * MIB - 4096
    assert path.stat().st_size <= 4096
    graph.close()
    graph.close()
    assert card.memory().free_bytes == 64 * MIB


def test_a_graph_that_does_not_fit_is_refused(card: VirtualCard, tmp_path: Path) -> None:
    card.allocate(64 * MIB)
    with pytest.raises(OutOfCardMemory):
        card.load(graphs.adder(tmp_path / "add.axmodel"))


def test_a_large_card_takes_no_host_memory(open_card: OpenCard) -> None:
    card = open_card(memory_mib=7040)
    before = resident_bytes()
    buffers = [card.allocate(700 * MIB) for _ in range(10)]
    buffers[5].write(b"x", 350 * MIB)
    assert card.memory().free_bytes == 40 * MIB
    assert resident_bytes() - before < 16 * MIB


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_bytes_travel_both_ways(card: VirtualCard) -> None:
    buffer = card.allocate(64)
    row = np.arange(4, dtype=np.float32).astype(ml_dtypes.bfloat16)
    buffer.write(row, 8)
    buffer.write(b"ab", 62)
    assert buffer.read(8, 8) == row.tobytes()
    assert buffer.read(60, 4) == b"\0\0ab"
    target = np.zeros(4, ml_dtypes.bfloat16)
    buffer.read_into(target, 8)
    np.testing.assert_array_equal(target, row)


def test_arrays_of_any_order_travel_in_c_order(card: VirtualCard) -> None:
    buffer = card.allocate(24)
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer.write(np.asfortranarray(matrix))
    assert buffer.read(0, 24) == matrix.tobytes()


def test_a_scalar_travels(card: VirtualCard) -> None:
    buffer = card.allocate(4)
    buffer.write(np.array(7, np.uint32))
    scalar = np.zeros((), np.uint32)
    buffer.read_into(scalar)
    assert scalar == 7


def test_copies_stay_on_the_card(card: VirtualCard) -> None:
    source, target = card.allocate(16), card.allocate(16)
    source.write(b"0123456789abcdef")
    target.copy_from(source.view(4, 8), 2)
    assert target.read(0, 12) == b"\0\x00456789ab\0\0"
    target.copy_from(target.view(2, 8), 4)
    assert target.read(4, 8) == b"456789ab"
    assert card.counters.d2d_bytes == 16


@pytest.mark.parametrize(
    "act",
    [
        lambda b: b.write(b"12345", 12),
        lambda b: b.write(b"1", -1),
        lambda b: b.read(0, 17),
        lambda b: b.read(-1, 2),
        lambda b: b.read(0, -1),
        lambda b: b.read_into(np.zeros(5, np.float32)),
        lambda b: b.read_into(np.zeros((4, 2), np.float32)[:, 0]),
        lambda b: b.view(8, 9),
        lambda b: b.view(17),
        lambda b: b.copy_from(View(b, 8, 9)),
        lambda b: b.copy_from(b.view(0, 8), 9),
        lambda b: b.copy_from(View(object(), 0, 1)),  # type: ignore[arg-type]
    ],
)
def test_nothing_leaves_its_buffer(card: VirtualCard, act: Callable[[object], None]) -> None:
    buffer = card.allocate(16)
    before = card.counters.copy()
    with pytest.raises(FeedMismatch):
        act(buffer)
    assert card.counters == before


def test_a_closed_buffer_takes_and_gives_nothing(card: VirtualCard) -> None:
    buffer = card.allocate(16)
    buffer.close()
    with pytest.raises(FeedMismatch, match="closed"):
        buffer.write(b"1")
    with pytest.raises(FeedMismatch, match="closed"):
        buffer.view()


def test_counters_are_exact(card: VirtualCard, tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "add.axmodel")
    graph = card.load(path)
    assert card.counters == Counters(h2d_bytes=path.stat().st_size, h2d_calls=1)
    before = card.counters.copy()
    a, b = card.allocate(16), card.allocate(16)
    step = graph.bind(0, {"a": a.view(), "b": a.view()}, {"sum": b.view()})
    assert card.counters == before
    a.write(f32(1, 2, 3, 4))
    a.copy_from(b.view())
    card.execute([step, step, step], timeout_s=5)
    b.read(0, 4)
    b.read_into(np.zeros(2, np.float32))
    now = card.counters
    assert now.busy_s > 0
    assert (now.h2d_bytes - before.h2d_bytes, now.h2d_calls - before.h2d_calls) == (16, 1)
    assert (now.d2d_bytes, now.d2d_calls) == (16, 1)
    assert (now.d2h_bytes, now.d2h_calls) == (12, 2)
    assert now.executes == 3


def test_a_one_shot_run_sends_everything_up_and_down(card: VirtualCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "add.axmodel"))
    before = card.counters.copy()
    first = graph.run({"a": f32(1, 2, 3, 4), "b": f32(1, 1, 1, 1)}, timeout_s=5)
    second = graph.run(
        {"a": np.ones((1, 8), np.float32), "b": np.ones((1, 8), np.float32)}, group=1, timeout_s=5
    )
    np.testing.assert_array_equal(first["sum"], f32(2, 3, 4, 5))
    np.testing.assert_array_equal(second["sum"], np.full((1, 8), 2, np.float32))
    now = card.counters
    assert (now.h2d_bytes - before.h2d_bytes, now.h2d_calls - before.h2d_calls) == (96, 4)
    assert (now.d2h_bytes - before.d2h_bytes, now.d2h_calls - before.d2h_calls) == (48, 2)
    assert now.executes - before.executes == 2


@pytest.mark.parametrize(
    "feeds",
    [
        {"a": f32(1, 2, 3, 4)},
        {"a": f32(1, 2, 3, 4), "b": f32(1, 2, 3, 4), "c": f32(1)},
        {"a": f32(1, 2, 3, 4), "b": f32(1, 2, 3)},
        {"a": f32(1, 2, 3, 4), "b": f32(1, 2, 3, 4).astype(np.float64)},
        {"a": f32(1, 2, 3, 4), "b": f32(1, 2, 3, 4)[0]},
    ],
)
def test_feeds_must_be_what_the_group_declares(
    card: VirtualCard, tmp_path: Path, feeds: dict[str, np.ndarray]
) -> None:
    graph = card.load(graphs.adder(tmp_path / "add.axmodel"))
    before = card.counters.copy()
    with pytest.raises(FeedMismatch):
        graph.run(feeds, timeout_s=5)
    assert card.counters == before


@pytest.mark.parametrize("group", [-1, 2])
def test_a_group_that_is_not_there_is_a_mismatch(card: VirtualCard, tmp_path: Path, group: int) -> None:
    graph = card.load(graphs.adder(tmp_path / "add.axmodel"))
    with pytest.raises(FeedMismatch, match="groups 0 to 1"):
        graph.run({}, group=group, timeout_s=5)


def test_feeds_of_any_order_are_taken(card: VirtualCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "add.axmodel"))
    strided = np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::2]
    result = graph.run({"a": strided, "b": strided}, timeout_s=5)
    np.testing.assert_array_equal(result["sum"], f32(0, 4, 8, 12))


def test_a_later_step_sees_what_a_former_wrote(card: VirtualCard, tmp_path: Path) -> None:
    graph = card.load(graphs.doubler(tmp_path / "double.axmodel"))
    a, b = card.allocate(16), card.allocate(16)
    there = graph.bind(0, {"x": a.view()}, {"y": b.view()})
    back = graph.bind(0, {"x": b.view()}, {"y": a.view()})
    a.write(f32(1, 2, 3, 4))
    card.execute([there, back, there], timeout_s=5)
    assert b.read(0, 16) == f32(8, 16, 24, 32).tobytes()


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(100)])
def test_what_is_no_graph_takes_no_memory(card: VirtualCard, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.axmodel"
    path.write_bytes(content)
    with pytest.raises(GraphRejected, match=r"bad\.axmodel"):
        card.load(path)
    assert card.memory().free_bytes == 64 * MIB


def test_a_missing_graph_is_rejected(card: VirtualCard, tmp_path: Path) -> None:
    with pytest.raises(GraphRejected, match="No such file"):
        card.load(tmp_path / "none.axmodel")


def test_a_graph_whose_weights_are_damaged_is_rejected(card: VirtualCard, tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "add.axmodel")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x22\x03Add", b"\x22\x03Xdd"))
    with pytest.raises(GraphRejected, match="onnxruntime refuses it"):
        card.load(path)
    assert card.memory().free_bytes == 64 * MIB


def test_steps_of_another_card_are_refused(card: VirtualCard, tmp_path: Path) -> None:
    with pytest.raises(FeedMismatch, match="another card"):
        card.execute([object()], timeout_s=5)  # type: ignore[list-item]


def test_a_closed_card_is_lost_and_may_be_opened_again(open_card: OpenCard) -> None:
    card = open_card()
    buffer = card.allocate(100)
    with pytest.raises(CardBusy):
        open_card()
    card.close()
    card.close()
    buffer.close()
    with pytest.raises(CardLost, match="closed"):
        card.allocate(1)
    assert open_card().memory().free_bytes == 7040 * MIB


def test_onnxruntime_comes_only_with_an_opened_card() -> None:
    program = (
        "import sys, hardware.choose, hardware.health, hardware.virtual.__main__\n"
        "found = {'onnxruntime', 'onnx'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
