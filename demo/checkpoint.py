"""A Hugging Face checkpoint directory of the Qwen2 and Qwen3 families, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[Any]]

_DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
_FAMILIES = ("qwen2", "qwen3")


class CheckpointError(Exception):
    """The directory is no checkpoint that can be exported; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The measures of a dense Qwen2, Qwen2.5 or Qwen3."""

    family: str
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    rope_theta: float
    epsilon: float
    is_tied: bool

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_size


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``weights`` are memory-mapped, in the checkpoint's own element types."""

    directory: Path
    architecture: Architecture
    config: Mapping[str, Any]
    weights: Weights

    def matrix(self, name: str) -> NDArray[Any]:
        """A weight in bf16. Raises CheckpointError when there is none of that name."""
        if name not in self.weights:
            raise CheckpointError(f"the weight {name} is missing in {self.directory}")
        return self.weights[name].astype(ml_dtypes.bfloat16)


def read_checkpoint(directory: Path) -> Checkpoint:
    """Raises CheckpointError."""
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{directory} has no config.json: it is no Hugging Face checkpoint")
    config = json.loads(path.read_text(encoding="utf-8"))
    return Checkpoint(directory, _architecture(config), config, _weights(directory))


def _architecture(config: Mapping[str, Any]) -> Architecture:
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise CheckpointError(f"model_type is {family!r}; what can be exported is {' and '.join(_FAMILIES)}")
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"hidden_act {config['hidden_act']!r} is not supported")
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise CheckpointError("sliding window attention is not supported")
    heads = config["num_attention_heads"]
    return Architecture(
        family=family,
        vocab=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        inner=config["intermediate_size"],
        rope_theta=_rope_theta(config),
        epsilon=config["rms_norm_eps"],
        is_tied=bool(config.get("tie_word_embeddings", False)),
    )


def _rope_theta(config: Mapping[str, Any]) -> float:
    """The base of the rotary positions: on top in older configs, among ``rope_parameters`` in newer ones."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(f"rotary positions of type {kind!r} are not supported")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _weights(directory: Path) -> Weights:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    weights: dict[str, NDArray[Any]] = {}
    for name in names:
        path = directory / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: only safetensors checkpoints can be exported")
        weights |= read_safetensors(path)
    return weights


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of one file, memory-mapped.

    Source: the safetensors format: u64 header length, JSON header, then the bytes.
    """
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"{name} in {path.name} is {entry['dtype']}; known are {', '.join(_DTYPES)}"
            )
        begin, end = entry["data_offsets"]
        tensors[name] = (
            data[start + begin : start + end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        )
    return tensors


def write_safetensors(path: Path, tensors: Weights) -> None:
    """Write tensors in the order given."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())
