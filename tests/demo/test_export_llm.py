"""The exporter: AXERA's layout, names and shapes, weights that stand once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from demo.checkpoint import CheckpointError, read_checkpoint, write_safetensors
from demo.export_llm import main, usual_compute
from demo.llm_graphs import Compute
from hardware.virtual.format import read_groups
from tests.golden.llm import MODELS, QWEN3, QWEN25, Golden, weights, write_checkpoint, write_package


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exports")
    for model in MODELS:
        write_package(model, directory / model.name)
    return directory


@pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])
def test_a_package_has_the_vendors_file_names(place: Path, model: Golden) -> None:
    names = {path.name for path in (place / model.name).iterdir()}
    assert names == {
        *(f"{model.family}_p{model.chunk}_l{layer}_together.axmodel" for layer in range(model.layers)),
        f"{model.family}_post.axmodel",
        f"{model.family}_tokenizer",
        "model.embed_tokens.weight.bfloat16.bin",
        "config.json",
        "post_config.json",
    }


@pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])
def test_groups_have_the_vendors_names_shapes_and_types(place: Path, model: Golden) -> None:
    groups = read_groups(next((place / model.name).glob("*_l0_together.axmodel"))).groups
    width = model.kv_heads * model.head_size
    shapes = [(1, model.kv_length), *((model.chunk, history) for history in model.histories)]
    for group, (tokens, history) in zip(groups, shapes, strict=True):
        cache = (1, history, width) if history else (1, 1, model.hidden)
        assert [(spec.name, spec.dtype, spec.shape) for spec in group.inputs] == [
            ("K_cache", "bf16", cache),
            ("V_cache", "bf16", cache),
            ("indices", "u32", (1, tokens)),
            ("input", "bf16", (1, tokens, model.hidden)),
            ("mask", "bf16", (1, tokens, history + tokens)),
        ]
        assert [(spec.name, spec.dtype, spec.shape) for spec in group.outputs] == [
            ("K_cache_out", "bf16", (1, tokens, width)),
            ("V_cache_out", "bf16", (1, tokens, width)),
            ("output", "bf16", (1, tokens, model.hidden)),
        ]


@pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])
def test_weights_stand_once_and_in_bf16(place: Path, model: Golden) -> None:
    sizes = sum(path.stat().st_size for path in (place / model.name).glob("*_l*_together.axmodel"))
    layers = sum(tensor.nbytes for name, tensor in weights(model).items() if ".layers." in name)
    assert layers < sizes < layers * 1.05 + model.layers * 16_384


def test_the_runners_config_says_what_the_files_are(place: Path) -> None:
    config = json.loads((place / "qwen25" / "config.json").read_text())
    assert config["tokenizer_type"] == "Qwen2_5"
    assert config["template_filename_axmodel"] % 0 == "qwen2_p16_l0_together.axmodel"
    assert (config["axmodel_num"], config["tokens_embed_num"], config["tokens_embed_size"]) == (3, 320, 64)
    for name in ("filename_post_axmodel", "filename_tokens_embed", "url_tokenizer_model", "post_config_path"):
        assert (place / "qwen25" / config[name]).exists()


def test_the_command_writes_the_same_bytes_again_and_clears_what_was_there(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "qwen3_p64_l7_together.axmodel"
    stale.write_bytes(b"old")
    (tmp_path / "hearth.toml").write_text('alias = "mine"', encoding="utf-8")
    arguments = [str(place / "qwen3-checkpoint"), str(tmp_path), "--kv-length", "63", "--chunk", "8"]
    assert main([*arguments, "--history", "8", "24"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert not stale.exists()
    assert (tmp_path / "hearth.toml").exists()
    for path in (place / "qwen3").glob("*.axmodel"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_without_a_ladder_there_is_a_group_for_every_chunk(place: Path, tmp_path: Path) -> None:
    assert main([str(place / "qwen3-checkpoint"), str(tmp_path), "--kv-length", "63", "--chunk", "16"]) == 0
    groups = read_groups(next(tmp_path.glob("*_l0_together.axmodel"))).groups
    masks = [group.input("mask").shape for group in groups[1:]]
    assert [shape[2] - shape[1] for shape in masks] == [0, 16, 32, 48]


def test_graphs_are_plain_onnx(place: Path) -> None:
    for path in place.glob("*/*.axmodel"):
        model = onnx.load(path)
        onnx.checker.check_model(model)
        assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_checkpoints_of_other_precision_are_rounded_to_bf16(tmp_path: Path, dtype: type) -> None:
    write_checkpoint(QWEN3, tmp_path)
    tensors = weights(QWEN3)
    wider: dict[str, NDArray[Any]] = {
        name: tensor.astype(np.float32).astype(dtype) for name, tensor in tensors.items()
    }
    write_safetensors(tmp_path / "model.safetensors", wider)
    matrix = read_checkpoint(tmp_path).matrix("model.norm.weight")
    assert matrix.dtype == ml_dtypes.bfloat16
    assert np.array_equal(matrix, tensors["model.norm.weight"])


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    write_checkpoint(QWEN25, tmp_path)
    tensors = weights(QWEN25)
    names = list(tensors)
    (tmp_path / "model.safetensors").unlink()
    for part, chosen in (("a", names[:7]), ("b", names[7:])):
        write_safetensors(tmp_path / f"{part}.safetensors", {name: tensors[name] for name in chosen})
    index = {
        "weight_map": {name: "a.safetensors" if at < 7 else "b.safetensors" for at, name in enumerate(names)}
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert set(read_checkpoint(tmp_path).weights) == set(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"hidden_act": "gelu"}, "'gelu'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], words: str
) -> None:
    write_checkpoint(QWEN3, tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text(json.dumps({**QWEN3.config(), **change}), encoding="utf-8")
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    source = Path(shutil.copytree(place / "qwen3-checkpoint", tmp_path / "in"))
    (source / missing).unlink()
    assert main([str(source), str(tmp_path / "out")]) == 1
    assert missing in capsys.readouterr().err


def test_newer_configs_keep_the_rotary_base_among_other_parameters(tmp_path: Path) -> None:
    write_checkpoint(QWEN3, tmp_path)
    config = {**QWEN3.config(), "rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}
    del config["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_checkpoint(tmp_path).architecture.rope_theta == 5e6


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    write_checkpoint(QWEN3, tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.nothing"):
        read_checkpoint(tmp_path).matrix("model.nothing")


@pytest.mark.parametrize("compute", ["f32", "f64"])
def test_the_precision_inside_can_be_asked_for(tmp_path: Path, compute: str) -> None:
    write_checkpoint(QWEN3, tmp_path / "checkpoint")
    assert main([str(tmp_path / "checkpoint"), str(tmp_path / "package"), "--compute", compute]) == 0
    wide = {"f32": onnx.TensorProto.FLOAT, "f64": onnx.TensorProto.DOUBLE}[compute]
    for path in (tmp_path / "package").glob("*_together.axmodel"):
        graph = onnx.load(path).graph
        weights = {
            tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BFLOAT16
        }
        casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]
        assert len(casts) == len(weights) > 0
        assert {node.attribute[0].i for node in casts} == {wide}


def test_small_models_compute_in_float64_and_large_ones_in_float32(place: Path) -> None:
    checkpoint = read_checkpoint(place / f"{QWEN3.name}-checkpoint")
    assert usual_compute(checkpoint) is Compute.F64
    large = replace(checkpoint, weights={"w": np.broadcast_to(np.float16(0), (5000, 5000))})
    assert usual_compute(large) is Compute.F32
