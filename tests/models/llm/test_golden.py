"""The engine against transformers, on three models of different geometry."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from hardware.card import KvWrite, Prefill, ShapeGroup, TensorSpec
from hardware.virtual.format import GROUPS_KEY, encode_groups, read_groups
from models.llm.network import Network
from models.llm.package import find_package
from tests.golden.llm import ANSWERS, LOGITS, MODELS
from tests.models.cards import OtherCard, prefill, result

GOLDEN = json.loads(ANSWERS.read_text(encoding="utf-8"))["models"]
CASES = [(model.name, index) for model in MODELS for index in range(len(GOLDEN[model.name]))]
WAYS: dict[str, dict[str, Any]] = {
    "in place": {},
    "copied": {"kv_write": KvWrite.COPY},
    "token by token": {"prefill": Prefill.DECODE},
    "copied, token by token": {"kv_write": KvWrite.COPY, "prefill": Prefill.DECODE},
}

Load = Callable[..., Network]


@pytest.fixture
def load(packages: Mapping[str, Path], open_card: Callable[..., OtherCard]) -> Iterator[Load]:
    """``load(name, torn=…, kv_write=…)``: the network of a golden model on a fresh card."""
    networks = []

    def loaded(name: str, *, torn: bool = False, **traits: Any) -> Network:
        card = open_card(torn=torn).change(**traits)
        networks.append(result(Network.load(card, find_package(packages[name]))))
        return networks[-1]

    yield loaded
    for network in networks:
        network.close()


def as_floats(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def answer(network: Network, prompt: list[int], count: int) -> tuple[list[int], NDArray[np.float32]]:
    """``count`` greedy tokens after ``prompt``, and the logits each was chosen from."""
    rows, tokens = [], []
    logits = prefill(network, prompt)
    for position in range(len(prompt), len(prompt) + count):
        rows.append(as_floats(logits))
        tokens.append(int(rows[-1].argmax()))
        logits = network.decoder.forward(tokens[-1], position)
    return tokens, np.stack(rows)


def rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@pytest.mark.parametrize("torn", [False, True], ids=["calm", "torn"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_greedy_tokens_are_those_of_transformers(name: str, way: str, torn: bool, load: Load) -> None:
    network = load(name, torn=torn, **WAYS[way])
    for case in GOLDEN[name]:
        assert answer(network, case["prompt"], len(case["answer"]))[0] == case["answer"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_logits_are_within_bf16_rounding_of_transformers(name: str, way: str, load: Load) -> None:
    """The bound is what rounding does to transformers itself: how far its own bfloat16 run is from float32.

    Ours rounds less often (weights, K/V, the hidden row between layers and the logits are bf16, what happens
    inside a layer is float32), so its distance from float32 must not be larger.
    """
    network = load(name, **WAYS[way])
    exact = np.load(LOGITS)
    for index, case in enumerate(GOLDEN[name]):
        _, rows = answer(network, case["prompt"], len(case["answer"]))
        assert rms(rows - exact[f"{name}.{index}"]) <= case["bf16_rms"]


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_torn_rows_and_copies_change_no_bit(name: str, load: Load) -> None:
    networks = [load(name), load(name, torn=True), load(name, torn=True, kv_write=KvWrite.COPY)]
    for case in GOLDEN[name]:
        rows = [answer(network, case["prompt"], len(case["answer"]))[1] for network in networks]
        assert all(np.array_equal(rows[0], other) for other in rows[1:])


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_chunks_and_single_tokens_leave_the_same_first_layer_in_the_cache(name: str, load: Load) -> None:
    """Layer 0 sees the same embeddings either way; only the order of sums may change a row's last bit."""
    by_chunk, by_token = load(name), load(name, prefill=Prefill.DECODE)
    prompt = GOLDEN[name][-1]["prompt"]
    caches = []
    for network in (by_chunk, by_token):
        prefill(network, prompt)
        keys, _ = network.cache.history(0, len(prompt))
        caches.append(as_floats(np.frombuffer(keys.buffer.read(0, keys.size_bytes), np.uint16)))
    np.testing.assert_allclose(caches[0], caches[1], rtol=2**-7, atol=2**-7)


def rewritten(directory: Path, change: Callable[[list[ShapeGroup]], list[ShapeGroup]]) -> None:
    """Give the layers of a package other shape groups."""
    for path in directory.glob("*_together.axmodel"):
        groups = change(list(read_groups(path).groups))
        without = [
            group.index for group in groups if math.prod(group.input("mask").shape) == _positions(group) ** 2
        ]
        proto = onnx.load(path)
        entry = next(entry for entry in proto.metadata_props if entry.key == GROUPS_KEY)
        entry.value = encode_groups(groups, without_history=without)
        onnx.save(proto, path)


def _positions(group: ShapeGroup) -> int:
    return group.input("indices").shape[-1]


def with_suffixes(groups: list[ShapeGroup]) -> list[ShapeGroup]:
    """Names in all groups but the first end in the group's index, as some compilers write them."""

    def renamed(specs: tuple[TensorSpec, ...], index: int) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, name=f"{spec.name}_{index}") for spec in specs)

    others = [
        replace(each, inputs=renamed(each.inputs, each.index), outputs=renamed(each.outputs, each.index))
        for each in groups[1:]
    ]
    return [groups[0], *others]


def with_short_decode_groups(groups: list[ShapeGroup]) -> list[ShapeGroup]:
    """Two more decode groups, of 20 and of 40 rows, behind all others."""

    def shortened(rows: int, index: int) -> ShapeGroup:
        width = groups[0].input("K_cache").shape[-1]
        shapes = {"K_cache": (1, rows, width), "V_cache": (1, rows, width), "mask": (1, 1, rows + 1)}
        inputs = tuple(replace(spec, shape=shapes.get(spec.name, spec.shape)) for spec in groups[0].inputs)
        return replace(groups[0], index=index, inputs=inputs)

    return [*groups, shortened(20, len(groups)), shortened(40, len(groups) + 1)]


def without_prefill(groups: list[ShapeGroup]) -> list[ShapeGroup]:
    return groups[:1]


def reversed_ladder(groups: list[ShapeGroup]) -> list[ShapeGroup]:
    return [replace(group, index=index) for index, group in enumerate(reversed(groups))]


@pytest.mark.parametrize(
    "change", [with_suffixes, with_short_decode_groups, without_prefill, reversed_ladder]
)
def test_other_forms_of_the_same_package_give_the_same_tokens(
    change: Callable[[list[ShapeGroup]], list[ShapeGroup]],
    packages: Mapping[str, Path],
    tmp_path: Path,
    card: OtherCard,
) -> None:
    directory = Path(shutil.copytree(packages["qwen25"], tmp_path / "changed"))
    rewritten(directory, change)
    network = result(Network.load(card, find_package(directory)))
    for case in GOLDEN["qwen25"]:
        assert answer(network, case["prompt"], len(case["answer"]))[0] == case["answer"]
    network.close()


def test_the_golden_models_differ_in_every_measure() -> None:
    for measure in ("layers", "heads", "kv_width", "chunk", "histories", "kv_length", "vocab"):
        values = [
            model.kv_heads * model.head_size if measure == "kv_width" else getattr(model, measure)
            for model in MODELS
        ]
        assert len(set(values)) == len(MODELS), measure
    assert {model.is_tied for model in MODELS} == {True, False}


def test_the_golden_prompts_cover_less_than_a_chunk_and_more_than_the_ladder() -> None:
    for model in MODELS:
        lengths = [len(case["prompt"]) for case in GOLDEN[model.name]]
        assert tuple(lengths) == model.prompt_lengths
        assert min(lengths) < model.chunk < max(lengths)
        assert max(lengths) > model.histories[-1] + model.chunk
