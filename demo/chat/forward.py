"""The network in numpy, for evaluation without torch: greedy, one talk at a time, with a KV cache."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.chat.geometry import Geometry

Array = NDArray[np.float32]


def read_safetensors(path: Path) -> dict[str, Array]:
    """Every tensor of a bf16 or float32 safetensors file as float32."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors: dict[str, Array] = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        raw = data[8 + size + start : 8 + size + end]
        if entry["dtype"] == "BF16":
            # bf16 is the upper half of a float32.
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F32":
            values = np.frombuffer(raw, np.float32)
        else:
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not BF16 or F32")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class Network:
    """A Qwen3 checkpoint, ready to write."""

    def __init__(self, geometry: Geometry, weights: Mapping[str, Array]) -> None:
        self.geometry = geometry
        self.weights = {name: np.ascontiguousarray(w.T if w.ndim == 2 else w) for name, w in weights.items()}
        self.embedding = weights["model.embed_tokens.weight"]
        half = np.arange(0, geometry.head_size, 2) / geometry.head_size
        angles = np.arange(geometry.context)[:, None] * geometry.rope_theta**-half
        angles = np.concatenate((angles, angles), -1)[:, None, :]
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    @classmethod
    def read(cls, directory: Path) -> Network:
        """The network of a checkpoint directory."""
        return cls(Geometry.read(directory), read_safetensors(directory / "model.safetensors"))

    def write(self, prompt: Sequence[int], stop: Collection[int], limit: int) -> list[int]:
        """The ids after ``prompt``, greedily, up to and without a ``stop`` id, at most ``limit``."""
        shape = (self.geometry.context, self.geometry.kv_heads, self.geometry.head_size)
        cache = [
            (np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(self.geometry.layers)
        ]
        written: list[int] = []
        pending, start = list(prompt), 0
        while len(written) < limit and start + len(pending) <= self.geometry.context:
            token = int(self._logits(pending, start, cache).argmax())
            if token in stop:
                break
            written.append(token)
            start, pending = start + len(pending), [token]
        return written

    def _logits(self, ids: Sequence[int], start: int, cache: list[tuple[Array, Array]]) -> Array:
        """Logits ``float32[vocab]`` after the last of ``ids``, which stand at ``start``."""
        hidden = self.embedding[np.asarray(ids)]
        for layer, kept in enumerate(cache):
            hidden = self._layer(f"model.layers.{layer}.", hidden, start, kept)
        last: Array = self._norm(hidden[-1:], "model.norm.weight")
        logits: Array = (last @ self.embedding.T)[0]
        return logits

    def _norm(self, x: Array, name: str) -> Array:
        scale = np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(self.geometry.epsilon))
        result: Array = x / scale * self.weights[name]
        return result

    def _turned(self, x: Array, start: int) -> Array:
        low, high = np.split(x, 2, -1)
        cos, sin = self.cos[start : start + len(x)], self.sin[start : start + len(x)]
        result: Array = x * cos + np.concatenate((-high, low), -1) * sin
        return result

    def _layer(self, at: str, hidden: Array, start: int, kept: tuple[Array, Array]) -> Array:
        w, attention = self.weights, at + "self_attn."
        size, end = self.geometry.head_size, start + len(hidden)
        x = self._norm(hidden, at + "input_layernorm.weight")
        q, k, v = ((x @ w[f"{attention}{part}_proj.weight"]).reshape(len(x), -1, size) for part in "qkv")
        q = self._turned(self._norm(q, attention + "q_norm.weight"), start)
        kept[0][start:end] = self._turned(self._norm(k, attention + "k_norm.weight"), start)
        kept[1][start:end] = v
        out = _attend(q, kept[0][:end], kept[1][:end], start)
        hidden = hidden + out @ w[attention + "o_proj.weight"]
        x = self._norm(hidden, at + "post_attention_layernorm.weight")
        gate, up = x @ w[at + "mlp.gate_proj.weight"], x @ w[at + "mlp.up_proj.weight"]
        result: Array = hidden + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"]
        return result


def _attend(q: Array, k: Array, v: Array, start: int) -> Array:
    """Causal attention of rows from ``start`` on to all rows: ``float32[rows, heads * head_size]``."""
    rows, heads, size = q.shape
    shared = heads // k.shape[1]
    keys, values = k.repeat(shared, 1).transpose(1, 2, 0), v.repeat(shared, 1).transpose(1, 0, 2)
    scores = q.transpose(1, 0, 2) @ keys / np.float32(np.sqrt(size))
    hidden = np.arange(k.shape[0])[None, :] > np.arange(start, start + rows)[:, None]
    scores = np.where(hidden[None], np.float32(-1e9), scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    result: Array = (weights @ values).transpose(1, 0, 2).reshape(rows, heads * size)
    return result
