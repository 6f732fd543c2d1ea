from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from hardware.binding import base_name
from hardware.card import TensorSpec
from hardware.errors import GraphRejected
from hardware.virtual.format import encode_groups, read_groups
from tests.hardware import graphs
from tests.hardware.examples import patient

GOOD = [{"inputs": [["x", "f32", [1, 4]]], "outputs": [["y", "f32", [1, 4]]]}]


def write(path: Path, groups: Any = GOOD, **metadata: str) -> Path:
    """A file that is nothing but metadata: the reader never looks at the graph itself."""
    model = onnx.ModelProto(ir_version=9, opset_import=[helper.make_opsetid("", 17)])
    text = groups if isinstance(groups, str) else json.dumps(groups)
    entries = {"hearth.format": "1", "hearth.groups": text}
    entries.update({key.replace("_", ".", 1): value for key, value in metadata.items()})
    helper.set_model_props(model, {key: value for key, value in entries.items() if value})
    path.write_bytes(model.SerializeToString())
    return path


def test_what_was_encoded_is_read(tmp_path: Path) -> None:
    file = read_groups(graphs.layer(tmp_path / "l0.axmodel"))
    assert list(file.groups) == graphs.layer_groups()
    assert file.groups[2].input("mask") == TensorSpec("mask", "bf16", (1, 2, 4))


def test_caches_of_a_group_without_history_are_placeholders(tmp_path: Path) -> None:
    file = read_groups(graphs.layer(tmp_path / "l0.axmodel", suffix=True))
    assert file.placeholders == (frozenset(), frozenset({"K_cache_1", "V_cache_1"}), frozenset())


def test_weights_are_not_read(tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "a.axmodel")
    blob = onnx.load(path)
    blob.graph.initializer.append(
        helper.make_tensor("w", onnx.TensorProto.UINT8, [1 << 20], bytes(1 << 20), raw=True)
    )
    path.write_bytes(blob.SerializeToString())
    whole = path.read_bytes()
    start = whole.index(bytes(1 << 20))
    path.write_bytes(whole[:start] + b"\xff" * (1 << 20) + whole[start + (1 << 20) :])
    assert len(read_groups(path).groups) == 2


def test_step_times_are_one_number_or_one_per_group(tmp_path: Path) -> None:
    assert read_groups(write(tmp_path / "a")).step_ms == (0.0,)
    assert read_groups(write(tmp_path / "b", GOOD * 2, hearth_step_ms="1.5")).step_ms == (1.5, 1.5)
    assert read_groups(write(tmp_path / "c", GOOD * 2, hearth_step_ms="[1, 20]")).step_ms == (1.0, 20.0)


@pytest.mark.parametrize("value", ["[1]", "[]", "-1", '"1"', "true", "NaN", "1e9", "{", '{"0": 1}'])
def test_odd_step_times_are_rejected(tmp_path: Path, value: str) -> None:
    with pytest.raises(GraphRejected, match="step_ms"):
        read_groups(write(tmp_path / "a", GOOD * 2, hearth_step_ms=value))


def changed(**changes: Any) -> list[dict[str, Any]]:
    return [{**GOOD[0], **changes}]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("", "hearth.groups must be a list"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({}, "must be a list of 1"),
        ([], "must be a list of 1"),
        ([1], "group 0 must be an object"),
        ([{"inputs": []}], "group 0 must be an object"),
        (changed(inputs=[]), "lists of 1"),
        (changed(inputs={}), "lists of 1"),
        (changed(inputs=[["x", "f32"]]), "is not"),
        (changed(inputs=[["", "f32", [1]]]), "is not"),
        (changed(inputs=[["\ud800", "f32", [1]]]), "is not"),
        (changed(inputs=[["x", "f32", [0]]]), "is not"),
        (changed(inputs=[["x", "f32", [-1]]]), "is not"),
        (changed(inputs=[["x", "f32", [True]]]), "is not"),
        (changed(inputs=[["x", "f32", [1.0]]]), "is not"),
        (changed(inputs=[["x", "f32", "4"]]), "is not"),
        (changed(inputs=[["x", "f64", [1]]]), "dtype 'f64'"),
        (changed(inputs=[["x", "f32", [1 << 40]]]), "larger than any card"),
        (changed(inputs=[["x", "f32", [1] * 9]]), "larger than any card"),
        (changed(inputs=[["y", "f32", [1]]]), "names 'y' twice"),
        (changed(history=0), "no cache input"),
        (changed(history=1), "may only be 0"),
        (changed(history=False), "may only be 0"),
        (changed(mystery=1), "unknown key 'mystery'"),
    ],
)
def test_groups_that_make_no_sense_are_rejected(tmp_path: Path, groups: Any, message: str) -> None:
    with pytest.raises(GraphRejected, match=message) as caught:
        read_groups(write(tmp_path / "odd.axmodel", groups))
    assert "odd.axmodel" in str(caught.value)


def test_a_plain_onnx_file_is_no_graph_for_this_card(tmp_path: Path) -> None:
    path = graphs.adder(tmp_path / "a.axmodel")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(GraphRejected, match="no graph for the virtual card"):
        read_groups(path)


def test_another_format_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(GraphRejected, match="format is '2'"):
        read_groups(write(tmp_path / "a", hearth_format="2"))


def test_an_old_opset_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    model = onnx.load_model_from_string(path.read_bytes())
    model.opset_import[0].version = 16
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphRejected, match="opset 16"):
        read_groups(path)


def test_a_missing_file_and_a_directory_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(GraphRejected, match="No such file"):
        read_groups(tmp_path / "none.axmodel")
    with pytest.raises(GraphRejected, match="directory"):
        read_groups(tmp_path)


def test_a_file_cut_anywhere_is_rejected_or_keeps_its_groups(tmp_path: Path) -> None:
    whole = graphs.doubler(tmp_path / "double.axmodel").read_bytes()
    path = tmp_path / "cut.axmodel"
    kept = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            assert len(read_groups(path).groups) == 1
            kept += 1
        except GraphRejected:
            continue
    # Only a cut between two whole entries after the groups can go unnoticed here; onnxruntime decides then.
    assert kept <= 2


@patient
@given(st.binary(max_size=200))
def test_random_bytes_are_rejected_and_nothing_else_happens(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.axmodel"
    path.write_bytes(data)
    with pytest.raises(GraphRejected):
        read_groups(path)


@patient
@given(st.data())
def test_flipped_bytes_are_rejected_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.axmodel"
    whole = bytearray(write(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    with suppress(GraphRejected):
        assert len(read_groups(path).groups) >= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@patient
@given(json_values)
def test_any_json_as_groups_is_rejected_or_read(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write(tmp_path_factory.getbasetemp() / "json.axmodel", [{"inputs": value, "outputs": value}])
    with pytest.raises(GraphRejected):
        read_groups(path)


def test_only_the_groups_own_suffix_is_dropped() -> None:
    assert base_name("K_cache_1", 1) == "K_cache"
    assert base_name("K_cache_1", 11) == "K_cache_1"
    assert base_name("K_cache_11", 1) == "K_cache_11"
    assert base_name("K_cache", 0) == "K_cache"


def test_encoding_names_the_groups_without_history() -> None:
    entries = json.loads(encode_groups(graphs.layer_groups(), without_history={1}))
    assert ["history" in entry for entry in entries] == [False, True, False]
