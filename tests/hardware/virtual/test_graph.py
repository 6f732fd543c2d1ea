"""Binding: every tensor, its exact size, and the one overlap that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from hardware.card import View
from hardware.errors import FeedMismatch, GraphRejected
from hardware.virtual.card import VirtualCard
from hardware.virtual.format import encode_groups
from hardware.virtual.graph import VirtualGraph, VirtualStep
from hardware.virtual.memory import VirtualBuffer
from tests.hardware import graphs
from tests.hardware.conftest import OpenCard
from tests.hardware.graphs import CHUNK, HIDDEN, ROWS, WIDTH

BF16 = np.dtype(ml_dtypes.bfloat16)
ROW_BYTES = WIDTH * 2
BLOCKED = -65536.0


class Layer:
    """The tiny layer with buffers of its own, driven as an engine drives a real one."""

    def __init__(self, card: VirtualCard, path: Path, group: int = 0) -> None:
        self.card = card
        self.graph: VirtualGraph = card.load(path)
        specs = self.graph.groups[group]
        self.inputs = {spec.name: card.allocate(spec.size_bytes) for spec in specs.inputs}
        self.outputs = {spec.name: card.allocate(spec.size_bytes) for spec in specs.outputs}
        self.group = group

    def views(self) -> tuple[dict[str, View], dict[str, View]]:
        return (
            {name: buffer.view() for name, buffer in self.inputs.items()},
            {name: buffer.view() for name, buffer in self.outputs.items()},
        )

    def bind(
        self, inputs: dict[str, View] | None = None, outputs: dict[str, View] | None = None
    ) -> VirtualStep:
        own_inputs, own_outputs = self.views()
        return self.graph.bind(
            self.group, {**own_inputs, **(inputs or {})}, {**own_outputs, **(outputs or {})}
        )

    def row(self, cache: str, position: int) -> View:
        return self.inputs[cache].view(position * ROW_BYTES, ROW_BYTES)

    def feed(self, position: int, hidden: np.ndarray) -> None:
        mask = np.full(ROWS + 1, BLOCKED, BF16)
        mask[:position] = 0
        mask[ROWS] = 0
        self.inputs["mask"].write(mask)
        self.inputs["indices"].write(np.array([position], np.uint32))
        self.inputs["input"].write(hidden.astype(BF16))

    def decode(self, step: VirtualStep, count: int) -> list[bytes]:
        """The outputs of ``count`` steps that write their rows in place."""
        results = []
        for position in range(count):
            self.feed(position, np.sin(np.arange(HIDDEN) + position))
            for cache in ("K_cache", "V_cache"):
                step.rebind(f"{cache}_out", self.row(cache, position))
            self.card.execute([step], timeout_s=5)
            results.append(self.outputs["output"].read(0, HIDDEN * 2))
        return results


@pytest.fixture
def layer(card: VirtualCard, tmp_path: Path) -> Layer:
    return Layer(card, graphs.layer(tmp_path / "l0.axmodel"))


def in_place(layer: Layer) -> VirtualStep:
    return layer.bind(outputs={f"{cache}_out": layer.row(cache, 0) for cache in ("K_cache", "V_cache")})


def expected(count: int) -> list[bytes]:
    """The same layer in plain numpy, with the rounding to bf16 where the graph has it."""
    keys: list[np.ndarray] = []
    values: list[np.ndarray] = []
    results = []
    for position in range(count):
        hidden = np.sin(np.arange(HIDDEN) + position).astype(BF16).astype(np.float32)
        k, v = [*keys, hidden], [*values, hidden + position]
        scores = np.array([hidden @ key for key in k])
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        results.append((weights @ np.array(v) + hidden).astype(BF16))
        keys.append(k[-1].astype(BF16).astype(np.float32))
        values.append(v[-1].astype(BF16).astype(np.float32))
    return [result.tobytes() for result in results]


def test_rows_written_in_place_give_what_numpy_gives(layer: Layer) -> None:
    got = layer.decode(in_place(layer), ROWS)
    for mine, theirs in zip(got, expected(ROWS), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(mine, BF16).astype(np.float32),
            np.frombuffer(theirs, BF16).astype(np.float32),
            rtol=0.01,
        )


def test_rows_written_in_place_equal_rows_copied(layer: Layer, card: VirtualCard) -> None:
    first = layer.decode(in_place(layer), ROWS)
    cache = layer.inputs["K_cache"].read(0, ROWS * ROW_BYTES)
    for name in ("K_cache", "V_cache"):
        layer.inputs[name].write(bytes(ROWS * ROW_BYTES))
    step = layer.bind()
    second = []
    for position in range(ROWS):
        layer.feed(position, np.sin(np.arange(HIDDEN) + position))
        card.execute([step], timeout_s=5)
        for name in ("K_cache", "V_cache"):
            layer.inputs[name].copy_from(layer.outputs[f"{name}_out"].view(), position * ROW_BYTES)
        second.append(layer.outputs["output"].read(0, HIDDEN * 2))
    assert first == second
    assert layer.inputs["K_cache"].read(0, ROWS * ROW_BYTES) == cache


def test_a_row_written_in_place_is_no_copy_on_the_card(layer: Layer, card: VirtualCard) -> None:
    layer.decode(in_place(layer), ROWS)
    assert card.counters.d2d_calls == 0


def test_torn_rows_change_nothing(card: VirtualCard, open_card: OpenCard, tmp_path: Path) -> None:
    path = graphs.layer(tmp_path / "l0.axmodel")
    whole = Layer(card, path)
    results = whole.decode(in_place(whole), ROWS)
    card.close()
    torn_card = open_card(memory_mib=64, torn=True)
    torn = Layer(torn_card, path)
    assert torn.decode(in_place(torn), ROWS) == results


def test_torn_shows_who_reads_a_row_that_the_mask_should_hide(open_card: OpenCard, tmp_path: Path) -> None:
    layer = Layer(open_card(memory_mib=64, torn=True), graphs.layer(tmp_path / "l0.axmodel"))
    step = in_place(layer)
    layer.feed(0, np.ones(HIDDEN))
    layer.inputs["mask"].write(np.zeros(ROWS + 1, BF16))
    outputs = []
    for _ in range(2):
        for cache in ("K_cache", "V_cache"):
            layer.inputs[cache].write(bytes(ROW_BYTES))
        layer.card.execute([step], timeout_s=5)
        outputs.append(layer.outputs["output"].read(0, HIDDEN * 2))
    assert outputs[0] != outputs[1]
    assert np.isfinite(np.frombuffer(outputs[0], BF16).astype(np.float32)).all()


@pytest.mark.parametrize("suffix", [False, True])
def test_a_group_without_history_takes_dummy_caches(card: VirtualCard, tmp_path: Path, suffix: bool) -> None:
    layer = Layer(card, graphs.layer(tmp_path / "l0.axmodel", suffix=suffix), group=1)
    names = {spec.name.removesuffix("_1"): spec for spec in layer.graph.groups[1].inputs}
    assert names["K_cache"].shape == (1, 1, 7)
    for buffer in (layer.inputs[names["K_cache"].name], layer.inputs[names["V_cache"].name]):
        buffer.write(np.full(7, np.nan, BF16))  # nobody may look
    hidden = np.arange(CHUNK * HIDDEN).reshape(CHUNK, HIDDEN) / 8
    layer.inputs[names["input"].name].write(hidden.astype(BF16))
    mask = np.where(np.tri(CHUNK) > 0, 0, BLOCKED).astype(BF16)
    layer.inputs[names["mask"].name].write(mask)
    card.execute([layer.bind()], timeout_s=5)
    outputs = {name.removesuffix("_1"): buffer for name, buffer in layer.outputs.items()}
    assert outputs["K_cache_out"].read(0, hidden.size * 2) == hidden.astype(BF16).tobytes()
    first_row = np.frombuffer(outputs["output"].read(0, HIDDEN * 2), BF16)
    np.testing.assert_array_equal(first_row.astype(np.float32), 2 * hidden[0])


def test_a_dummy_as_wide_as_a_row_is_still_no_row(card: VirtualCard, tmp_path: Path) -> None:
    groups = encode_groups(graphs.layer_groups(dummy_width=WIDTH), without_history={1})
    layer = Layer(card, graphs.layer(tmp_path / "l0.axmodel", groups=groups), group=1)
    layer.inputs["K_cache"].write(np.full(WIDTH, np.nan, BF16))
    card.execute([layer.bind()], timeout_s=5)
    assert layer.outputs["output"].read(0, CHUNK * HIDDEN * 2) == bytes(CHUNK * HIDDEN * 2)


def test_one_graph_serves_all_groups_over_one_cache(card: VirtualCard, tmp_path: Path) -> None:
    """Two chunks through the prefill groups leave the same cache as token by token through decode."""
    layer = Layer(card, graphs.layer(tmp_path / "l0.axmodel"))
    hidden = np.stack([np.sin(np.arange(HIDDEN) + position) for position in range(2 * CHUNK)]).astype(BF16)
    layer.decode(in_place(layer), 2 * CHUNK)
    by_token = layer.inputs["V_cache"].read(0, 2 * CHUNK * ROW_BYTES)
    for group in (1, 2):
        part = Layer.__new__(Layer)
        part.card, part.graph, part.group = card, layer.graph, group
        specs = layer.graph.groups[group]
        part.inputs = {spec.name: card.allocate(spec.size_bytes) for spec in specs.inputs}
        part.outputs = {spec.name: card.allocate(spec.size_bytes) for spec in specs.outputs}
        history = 0 if group == 1 else CHUNK
        rows = slice(history, history + CHUNK)
        part.inputs["input"].write(hidden[rows])
        part.inputs["indices"].write(np.arange(history, history + CHUNK, dtype=np.uint32))
        mask = np.concatenate([np.zeros((CHUNK, history)), np.where(np.tri(CHUNK) > 0, 0, BLOCKED)], axis=1)
        part.inputs["mask"].write(mask.astype(BF16))
        views = {
            name: layer.inputs[name].view(0, history * ROW_BYTES)
            for name in ("K_cache", "V_cache")
            if history
        }
        card.execute([part.bind(inputs=views)], timeout_s=5)
        layer.inputs["V_cache"].copy_from(part.outputs["V_cache_out"].view(), history * ROW_BYTES)
    assert layer.inputs["V_cache"].read(0, 2 * CHUNK * ROW_BYTES) == by_token


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_every_tensor_must_be_bound(layer: Layer, side: str) -> None:
    inputs, outputs = layer.views()
    views = {"inputs": inputs, "outputs": outputs}
    for name in list(views[side]):
        some = {key: dict(value) for key, value in views.items()}
        del some[side][name]
        with pytest.raises(FeedMismatch, match=f"missing '{name}' among the {side} of group 0"):
            layer.graph.bind(0, **some)


def test_unknown_tensors_are_refused(layer: Layer) -> None:
    inputs, outputs = layer.views()
    with pytest.raises(FeedMismatch, match="unknown 'extra'"):
        layer.graph.bind(0, {**inputs, "extra": inputs["mask"]}, outputs)
    with pytest.raises(FeedMismatch, match="unknown 'mask'"):
        layer.graph.bind(0, inputs, {**outputs, "mask": inputs["mask"]})


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_view_must_have_exactly_the_tensors_size(layer: Layer, card: VirtualCard, difference: int) -> None:
    size = (ROWS + 1) * 2 + difference
    with pytest.raises(FeedMismatch, match="mask is bf16"):
        layer.bind(inputs={"mask": card.allocate(100).view(0, size)})
    step = layer.bind()
    with pytest.raises(FeedMismatch, match="mask is bf16"):
        step.rebind("mask", card.allocate(100).view(0, size))


def test_a_forged_view_is_refused(layer: Layer, card: VirtualCard) -> None:
    buffer = card.allocate(4)
    with pytest.raises(FeedMismatch, match="leave a buffer of 4"):
        layer.bind(inputs={"indices": View(buffer, 2, 4)})
    with pytest.raises(FeedMismatch, match="another card"):
        layer.bind(inputs={"indices": View(object(), 0, 4)})  # type: ignore[arg-type]


def overlapping(layer: Layer, card: VirtualCard) -> dict[str, tuple[dict[str, View], dict[str, View]]]:
    block: VirtualBuffer = card.allocate(4096)
    cache = ROWS * ROW_BYTES
    return {
        "output in input": ({"input": block.view(0, 8)}, {"output": block.view(0, 8)}),
        "output and input by one byte": ({"input": block.view(0, 8)}, {"output": block.view(7, 8)}),
        "two outputs": ({}, {"output": block.view(0, 8), "K_cache_out": block.view(4, 8)}),
        "K row in the V cache": ({"V_cache": block.view(0, cache)}, {"K_cache_out": block.view(0, 8)}),
        "K row half beyond its cache": (
            {"K_cache": block.view(0, cache)},
            {"K_cache_out": block.view(cache - 4, 8)},
        ),
        "K row half before its cache": ({"K_cache": block.view(4, cache)}, {"K_cache_out": block.view(0, 8)}),
        "hidden in the cache": ({"K_cache": block.view(0, cache)}, {"output": block.view(8, 8)}),
        "both rows in one place": (
            {"K_cache": block.view(0, cache), "V_cache": block.view(0, cache)},
            {"K_cache_out": block.view(0, 8)},
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "output in input",
        "output and input by one byte",
        "two outputs",
        "K row in the V cache",
        "K row half beyond its cache",
        "K row half before its cache",
        "hidden in the cache",
        "both rows in one place",
    ],
)
def test_any_other_overlap_is_refused(layer: Layer, card: VirtualCard, case: str) -> None:
    inputs, outputs = overlapping(layer, card)[case]
    with pytest.raises(FeedMismatch, match="overlaps"):
        layer.bind(inputs, outputs)


def test_neighbours_do_not_overlap(layer: Layer, card: VirtualCard) -> None:
    block = card.allocate(4096)
    cache = ROWS * ROW_BYTES
    layer.bind(
        {"K_cache": block.view(8, cache), "input": block.view(cache + 16, 8)},
        {"K_cache_out": block.view(0, 8), "output": block.view(cache + 8, 8)},
    )


def test_inputs_may_share_a_buffer(layer: Layer, card: VirtualCard) -> None:
    shared = card.allocate(ROWS * ROW_BYTES)
    step = layer.bind({"K_cache": shared.view(), "V_cache": shared.view()})
    card.execute([step], timeout_s=5)


def test_a_refused_rebind_leaves_the_step_as_it_was(layer: Layer, card: VirtualCard) -> None:
    step = in_place(layer)
    before = layer.decode(step, 2)
    with pytest.raises(FeedMismatch, match="overlaps"):
        step.rebind("output", layer.inputs["input"].view())
    with pytest.raises(FeedMismatch, match="overlaps"):
        step.rebind("input", layer.outputs["output"].view())
    with pytest.raises(FeedMismatch, match="no tensor 'nonsense'"):
        step.rebind("nonsense", layer.inputs["input"].view())
    assert layer.decode(step, 2) == before


def test_a_step_moves_to_another_conversation_by_rebinding(layer: Layer, card: VirtualCard) -> None:
    step = in_place(layer)
    first = layer.decode(step, 3)
    other = {name: card.allocate(ROWS * ROW_BYTES) for name in ("K_cache", "V_cache")}
    former = {name: layer.inputs[name] for name in other}
    for name, buffer in other.items():
        step.rebind(name, buffer.view())
        layer.inputs[name] = buffer
    kept = former["K_cache"].read(0, ROWS * ROW_BYTES)
    assert layer.decode(step, 3) == first
    assert former["K_cache"].read(0, ROWS * ROW_BYTES) == kept
    assert other["K_cache"].read(0, ROWS * ROW_BYTES) == kept


def test_a_cache_may_move_under_its_row_and_away_again(layer: Layer, card: VirtualCard) -> None:
    block = card.allocate(ROWS * ROW_BYTES)
    step = layer.bind(outputs={"K_cache_out": block.view(2 * ROW_BYTES, ROW_BYTES)})
    layer.feed(0, np.ones(HIDDEN))
    own = layer.inputs["K_cache"]
    for cache in (own, block, own):
        block.write(bytes(ROWS * ROW_BYTES))
        step.rebind("K_cache", cache.view())
        assert [slot.feed.spec.name for slot in step._in_place] == (["K_cache_out"] if cache is block else [])
        card.execute([step], timeout_s=5)
        assert block.read(2 * ROW_BYTES, ROW_BYTES) == np.ones(WIDTH, BF16).tobytes()


def test_a_step_may_leave_its_cache_and_come_back(layer: Layer, card: VirtualCard) -> None:
    step = in_place(layer)
    layer.feed(0, np.ones(HIDDEN))
    away = card.allocate(ROW_BYTES)
    step.rebind("K_cache_out", away.view())
    card.execute([step], timeout_s=5)
    row = np.ones(WIDTH, BF16).tobytes()
    assert away.read(0, ROW_BYTES) == row
    assert layer.inputs["K_cache"].read(0, ROW_BYTES) == bytes(ROW_BYTES)
    step.rebind("K_cache_out", layer.row("K_cache", 3))
    away.write(bytes(ROW_BYTES))
    card.execute([step], timeout_s=5)
    assert layer.inputs["K_cache"].read(3 * ROW_BYTES, ROW_BYTES) == row
    assert away.read(0, ROW_BYTES) == bytes(ROW_BYTES)


def test_a_step_over_a_closed_buffer_does_not_run(layer: Layer, card: VirtualCard) -> None:
    step = layer.bind()
    other = layer.bind()
    card.execute([step], timeout_s=5)
    layer.outputs["output"].close()
    for _ in range(2):
        with pytest.raises(FeedMismatch, match="output is bound to a closed buffer"):
            card.execute([step], timeout_s=5)
    other.rebind("output", card.allocate(HIDDEN * 2).view())
    card.execute([other], timeout_s=5)


def test_a_step_of_a_closed_graph_does_not_run(layer: Layer, card: VirtualCard) -> None:
    step = layer.bind()
    layer.graph.close()
    with pytest.raises(FeedMismatch, match="closed"):
        card.execute([step], timeout_s=5)
    with pytest.raises(FeedMismatch, match="closed"):
        layer.bind()


def declared(*, inputs: Any = None, outputs: Any = None, history: bool = False) -> str:
    groups = [graphs.group(0, inputs or [("x", "f32", (1, 4))], outputs or [("y", "f32", (1, 4))])]
    return encode_groups(groups, without_history={0} if history else ())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (declared(inputs=[("z", "f32", (1, 4))]), "declares inputs"),
        (declared(inputs=[("x", "f32", (1, 4)), ("z", "f32", (1, 4))]), "declares inputs"),
        (declared(outputs=[("z", "f32", (1, 4))]), "declares outputs"),
        (declared(inputs=[("x", "bf16", (1, 4))]), "x is bf16"),
        (declared(inputs=[("x", "f32", (1, 5))]), r"x is \[1, 5\]"),
        (declared(inputs=[("x", "f32", (1, 1, 4))]), r"x is \[1, 1, 4\]"),
    ],
)
def test_groups_that_the_graph_contradicts_are_rejected(
    card: VirtualCard, tmp_path: Path, groups: str, message: str
) -> None:
    path = graphs.doubler(tmp_path / "double.axmodel")
    rewrite(path, groups)
    with pytest.raises(GraphRejected, match=message):
        card.load(path)


def rewrite(path: Path, groups: str) -> None:
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "hearth.groups":
            entry.value = groups
    onnx.save(model, path)


def test_caches_that_cannot_be_empty_are_rejected(card: VirtualCard, tmp_path: Path) -> None:
    path = graphs.save(
        tmp_path / "fixed.axmodel",
        [helper.make_node("Add", ["K_cache", "K_cache"], ["y"])],
        [("K_cache", "f32", [1, 4])],
        [("y", "f32", [1, 4])],
        declared(inputs=[("K_cache", "f32", (1, 4))], history=True),
    )
    with pytest.raises(GraphRejected, match="no free axis 1"):
        card.load(path)


def test_shapes_that_only_executing_refutes_are_a_rejected_graph(card: VirtualCard, tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "add.axmodel")
    sizes = [("a", "f32", (1, 4)), ("b", "f32", (1, 4))]
    rewrite(path, encode_groups([graphs.group(0, sizes, [("sum", "f32", (1, 3))])]))
    graph = card.load(path)
    with pytest.raises(GraphRejected, match=r"add\.axmodel"):
        graph.run({"a": np.ones((1, 4), np.float32), "b": np.ones((1, 4), np.float32)}, timeout_s=5)
    assert card.memory().free_bytes > 0
