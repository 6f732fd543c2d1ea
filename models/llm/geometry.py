"""What the graphs themselves say about a model: widths, capacities, and the ladder of shape groups.

Nothing here is assumed from a model's name. A group whose ``indices`` hold one position decodes, any other
one prefills; capacities follow from the mask. Source: AXERA-TECH/ax-llm, ``init_groups_from_model``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.card import ShapeGroup, TensorSpec
from models.manifest import PackageProblem

LAYER_INPUTS = ("K_cache", "V_cache", "indices", "input", "mask")
LAYER_OUTPUTS = ("K_cache_out", "V_cache_out", "output")


@dataclass(frozen=True, slots=True, order=True)
class DecodeGroup:
    """One token at a time, over ``capacity`` rows of cache."""

    capacity: int
    index: int


@dataclass(frozen=True, slots=True, order=True)
class PrefillGroup:
    """``chunk`` tokens at a time, behind at most ``history`` rows of cache.

    A group without history still wants K/V: a dummy of its own shape, to be bound to zeros.
    """

    history: int
    chunk: int
    index: int


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """One layer. Groups are sorted, the smallest first. ``index_rows`` is 3 for models with mRoPE, else 1."""

    hidden: int
    kv_width: int
    index_rows: int
    decode: tuple[DecodeGroup, ...]
    prefill: tuple[PrefillGroup, ...]

    @property
    def row_bytes(self) -> int:
        """One token's K (or V), bf16."""
        return self.kv_width * 2


@dataclass(frozen=True, slots=True)
class PostGeometry:
    """The last graph: a hidden row in, ``vocab`` logits of ``dtype`` out, under these tensor names."""

    hidden: int
    vocab: int
    input_name: str
    output: TensorSpec


@dataclass(frozen=True, slots=True)
class Geometry:
    """A whole model. All layers share hidden width and ladder; the width of K/V may differ between them."""

    layers: tuple[LayerGeometry, ...]
    post: PostGeometry

    @property
    def hidden(self) -> int:
        return self.post.hidden

    @property
    def vocab(self) -> int:
        return self.post.vocab

    @property
    def decode(self) -> tuple[DecodeGroup, ...]:
        return self.layers[0].decode

    @property
    def prefill(self) -> tuple[PrefillGroup, ...]:
        return self.layers[0].prefill

    @property
    def context(self) -> int:
        """Tokens a conversation can have, prompt and answer together."""
        return self.decode[-1].capacity


def read_layer(groups: Sequence[ShapeGroup]) -> LayerGeometry:
    """Raises PackageProblem when the graph is no transformer layer of the form we run."""
    for group in groups:
        _refuse_strangers(group)
    decode = sorted(_decode_group(group) for group in groups if _positions(group) == 1)
    prefill = sorted(_prefill_group(group) for group in groups if _positions(group) != 1)
    if not decode:
        raise PackageProblem("its layers have no shape group for single tokens, so it cannot generate")
    first = next(group for group in groups if group.index == decode[0].index)
    layer = LayerGeometry(
        hidden=first.input("input").shape[-1],
        kv_width=first.output("K_cache_out").shape[-1],
        index_rows=_elements(first.input("indices")),
        decode=tuple(decode),
        prefill=tuple(prefill),
    )
    for group in groups:
        _check_sizes(group, layer)
    return layer


def read_post(groups: Sequence[ShapeGroup]) -> PostGeometry:
    """Raises PackageProblem when the graph does not turn one hidden row into logits."""
    group = groups[0]
    if len(group.inputs) != 1:
        raise PackageProblem(f"its last graph has {len(group.inputs)} inputs instead of one hidden row")
    floats = [spec for spec in group.outputs if spec.dtype in ("bf16", "f32")]
    if not floats:
        raise PackageProblem("its last graph gives no logits (bf16 or f32), only what it picked itself")
    logits = max(floats, key=_elements)
    return PostGeometry(_elements(group.inputs[0]), _elements(logits), group.inputs[0].name, logits)


def combine(layers: Sequence[LayerGeometry], post: PostGeometry) -> Geometry:
    """Raises PackageProblem when the graphs are not of one model."""
    first = layers[0]
    for index, layer in enumerate(layers):
        if layer.hidden != post.hidden:
            raise PackageProblem(
                f"layer {index} is {layer.hidden} wide, the last graph {post.hidden}: files of two models?"
            )
        if (layer.decode, layer.prefill, layer.index_rows) != (first.decode, first.prefill, first.index_rows):
            raise PackageProblem(
                f"layer {index} has other shape groups than layer 0: files of two builds are mixed"
            )
    return Geometry(tuple(layers), post)


def _elements(spec: TensorSpec) -> int:
    return math.prod(spec.shape)


def _positions(group: ShapeGroup) -> int:
    """Tokens this group takes at once."""
    return group.input("indices").shape[-1]


def _decode_group(group: ShapeGroup) -> DecodeGroup:
    return DecodeGroup(capacity=_elements(group.input("mask")) - 1, index=group.index)


def _prefill_group(group: ShapeGroup) -> PrefillGroup:
    chunk = _positions(group)
    return PrefillGroup(
        history=_elements(group.input("mask")) // chunk - chunk, chunk=chunk, index=group.index
    )


def _refuse_strangers(group: ShapeGroup) -> None:
    for specs, wanted in ((group.inputs, LAYER_INPUTS), (group.outputs, LAYER_OUTPUTS)):
        names = {spec.name.removesuffix(f"_{group.index}") if group.index else spec.name for spec in specs}
        if names != set(wanted):
            odd = ", ".join(sorted(names ^ set(wanted)))
            raise PackageProblem(
                f"its layers are of a kind that is not supported: tensors {odd} missing or unknown"
            )


def _check_sizes(group: ShapeGroup, layer: LayerGeometry) -> None:
    """Every tensor must have the size the engine's buffers are made for."""
    tokens = _positions(group)
    total = _elements(group.input("mask")) // tokens
    history = total - tokens
    wanted = {
        "input": ("bf16", tokens * layer.hidden),
        "mask": ("bf16", tokens * total),
        "indices": ("u32", tokens * layer.index_rows),
    }
    sizes = {name: (group.input(name).dtype, _elements(group.input(name))) for name in wanted}
    for name in ("K_cache", "V_cache"):
        # The dummy of a group without history is as wide as the hidden row in the packages seen, and nobody
        # promised that: whatever it is, it is bound to zeros of its own size.
        wanted[name] = ("bf16", history * layer.kv_width or _elements(group.input(name)))
        sizes[name] = (group.input(name).dtype, _elements(group.input(name)))
    for name in LAYER_OUTPUTS:
        width = layer.hidden if name == "output" else layer.kv_width
        wanted[name] = ("bf16", tokens * width)
        sizes[name] = (group.output(name).dtype, _elements(group.output(name)))
    for name, size in sizes.items():
        if size != wanted[name]:
            raise PackageProblem(
                f"its layers are of a kind that is not supported: {name} of group {group.index} is "
                f"{size[0]} × {size[1]}, not {wanted[name][0]} × {wanted[name][1]}"
            )
