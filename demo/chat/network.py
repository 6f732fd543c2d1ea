"""The network as plain torch functions over Qwen3's own weight names. Needs torch; only training does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from demo.chat.geometry import Geometry

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Group:
    """Talks of like length, to attend side by side: ``gather`` pads them, ``scatter`` drops the padding."""

    rows: int
    length: int
    gather: torch.Tensor
    scatter: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Many talks laid end to end, without padding; each attends to itself alone."""

    ids: torch.Tensor
    positions: torch.Tensor
    groups: tuple[Group, ...]
    learned: torch.Tensor
    targets: torch.Tensor


def initial(geometry: Geometry, seed: int) -> Weights:
    """Fresh weights, float32."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, shape in geometry.shapes().items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
        else:
            # The two matrices that write into the residual start small, so that depth does not.
            quiet = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = 0.02 if "embed" in name else shape[1] ** -0.5 * (0.2 if quiet else 1.0)
            weights[name] = torch.randn(shape, generator=generator) * std
    return weights


def batch_of(talks: Sequence[tuple[Sequence[int], Sequence[bool]]], group_count: int = 6) -> Batch:
    """Lay out ``(ids, learned)`` talks; ``learned`` says which ids the model is to write."""
    ordered = sorted(talks, key=lambda talk: len(talk[0]))
    starts = [0]
    for ids, _ in ordered:
        starts.append(starts[-1] + len(ids))
    flat = [token for ids, _ in ordered for token in ids]
    predicts = [
        place for start, (_, mask) in zip(starts, ordered, strict=False) for place in _before(start, mask)
    ]
    positions = [place for ids, _ in ordered for place in range(len(ids))]
    size = -(-len(ordered) // group_count)
    groups = tuple(
        _group([len(ids) for ids, _ in ordered[at : at + size]], starts[at], len(flat))
        for at in range(0, len(ordered), size)
    )
    learned = torch.tensor(predicts)
    all_ids = torch.tensor(flat)
    return Batch(all_ids, torch.tensor(positions), groups, learned, all_ids[learned + 1])


def _before(start: int, mask: Sequence[bool]) -> list[int]:
    """The places from which a learned id is predicted."""
    return [start + place - 1 for place, wanted in enumerate(mask) if wanted and place]


def _group(lengths: Sequence[int], start: int, nowhere: int) -> Group:
    longest = max(lengths)
    gather: list[int] = []
    scatter: list[int] = []
    for row, length in enumerate(lengths):
        gather += [*range(start, start + length), *[nowhere] * (longest - length)]
        scatter += range(row * longest, row * longest + length)
        start += length
    return Group(len(lengths), longest, torch.tensor(gather), torch.tensor(scatter))


def loss(weights: Weights, geometry: Geometry, batch: Batch) -> torch.Tensor:
    """Mean cross entropy over the learned ids."""
    hidden = functional.embedding(batch.ids, weights["model.embed_tokens.weight"])
    turn = _rotation(geometry, batch.positions)
    for layer in range(geometry.layers):
        hidden = _layer(weights, geometry, f"model.layers.{layer}.", hidden, turn, batch.groups)
    hidden = _norm(hidden[batch.learned], weights["model.norm.weight"], geometry.epsilon)
    logits = hidden @ weights["model.embed_tokens.weight"].T
    return functional.cross_entropy(logits, batch.targets)


def _norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


def _rotation(geometry: Geometry, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    half = torch.arange(0, geometry.head_size, 2) / geometry.head_size
    angles = positions[:, None] * geometry.rope_theta**-half
    angles = torch.cat((angles, angles), -1)[:, None, :]
    return angles.cos(), angles.sin()


def _turned(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    low, high = x.chunk(2, -1)
    return x * turn[0] + torch.cat((-high, low), -1) * turn[1]


def _layer(
    weights: Weights, geometry: Geometry, at: str, hidden: torch.Tensor,
    turn: tuple[torch.Tensor, torch.Tensor], groups: tuple[Group, ...],
) -> torch.Tensor:  # fmt: skip
    attention, epsilon = at + "self_attn.", geometry.epsilon
    x = _norm(hidden, weights[at + "input_layernorm.weight"], epsilon)
    fused = torch.cat([weights[f"{attention}{part}_proj.weight"] for part in "qkv"])
    split = (geometry.heads * geometry.head_size, *[geometry.kv_heads * geometry.head_size] * 2)
    q, k, v = (part.unflatten(-1, (-1, geometry.head_size)) for part in (x @ fused.T).split(split, -1))
    q = _turned(_norm(q, weights[attention + "q_norm.weight"], epsilon), turn)
    k = _turned(_norm(k, weights[attention + "k_norm.weight"], epsilon), turn)
    hidden = hidden + _attend(q, k, v, groups) @ weights[attention + "o_proj.weight"].T
    x = _norm(hidden, weights[at + "post_attention_layernorm.weight"], epsilon)
    fused = torch.cat([weights[f"{at}mlp.{part}_proj.weight"] for part in ("gate", "up")])
    gate, up = (x @ fused.T).chunk(2, -1)
    return hidden + (functional.silu(gate) * up) @ weights[at + "mlp.down_proj.weight"].T


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, groups: tuple[Group, ...]) -> torch.Tensor:
    """Causal attention of every talk to itself: ``float32[tokens, heads * head_size]``."""
    heads, size = q.shape[1], q.shape[2]
    repeat = heads // k.shape[1]
    together = torch.cat((q, k, v), 1)
    together = torch.cat((together, together.new_zeros(1, *together.shape[1:])))
    kept = []
    for group in groups:
        padded = together[group.gather].view(group.rows, group.length, -1, size).transpose(1, 2)
        queries, keys, values = padded.split((heads, k.shape[1], k.shape[1]), 1)
        keys, values = keys.repeat_interleave(repeat, 1), values.repeat_interleave(repeat, 1)
        out = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        kept.append(out.transpose(1, 2).reshape(group.rows * group.length, heads * size)[group.scatter])
    return torch.cat(kept)
