"""What the graph of an embedding model says about it: the lengths it takes, and the width it gives.

    input_ids i32[1, tokens], attention_mask[1, tokens] and token_type_ids[1, tokens] if it has them
    → f32[1, tokens, hidden]

Source: AXERA-TECH/bge.axera@128af42, README.md: one input, ids filled up with 0, and a row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware.card import ShapeGroup, TensorSpec
from models.manifest import PackageProblem

_FLOATS = frozenset({"f32", "f16", "bf16"})


@dataclass(frozen=True, slots=True)
class EncoderGroup:
    """One length the graph was compiled for. ``mask`` and ``types`` are None when it finds out by itself."""

    index: int
    tokens: int
    ids: TensorSpec
    mask: TensorSpec | None
    types: TensorSpec | None
    rows: TensorSpec


@dataclass(frozen=True, slots=True)
class EncoderGeometry:
    """The groups, the shortest first."""

    groups: tuple[EncoderGroup, ...]

    @property
    def context(self) -> int:
        return self.groups[-1].tokens

    @property
    def hidden(self) -> int:
        return self.groups[0].rows.shape[-1]

    def group_for(self, tokens: int) -> EncoderGroup:
        """The shortest with room. Raises StopIteration beyond ``context``."""
        return next(group for group in self.groups if tokens <= group.tokens)


def read_encoder(groups: Sequence[ShapeGroup]) -> EncoderGeometry:
    """Raises PackageProblem when the graph does not turn token ids into a row for each."""
    found = sorted((_group(group) for group in groups), key=lambda group: group.tokens)
    if len({group.rows.shape[-1] for group in found}) != 1:
        raise PackageProblem("its shape groups give rows of different widths: it is no encoder of texts")
    return EncoderGeometry(tuple(found))


def _group(group: ShapeGroup) -> EncoderGroup:
    inputs: dict[str, TensorSpec] = {}
    for spec in group.inputs:
        inputs[_role(spec)] = spec
    ids = inputs.get("ids")
    if ids is None or len(inputs) != len(group.inputs) or len({spec.shape for spec in group.inputs}) != 1:
        names = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in group.inputs)
        raise PackageProblem(f"its graph takes {names}: only token ids, a mask and types are understood")
    tokens = ids.shape[-1]
    rows = [spec for spec in group.outputs if spec.dtype in _FLOATS and spec.shape[:2] == (1, tokens)]
    rows = [spec for spec in rows if len(spec.shape) == 3]
    if not rows:
        names = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in group.outputs)
        raise PackageProblem(
            f"its graph gives {names}: a row for each of its {tokens} tokens is what is pooled"
        )
    return EncoderGroup(group.index, tokens, ids, inputs.get("mask"), inputs.get("types"), rows[0])


def _role(spec: TensorSpec) -> str:
    if len(spec.shape) != 2 or spec.shape[0] != 1 or spec.dtype in ("u8", "i8"):
        return spec.name
    name = spec.name.lower()
    if "mask" in name:
        return "mask"
    if "type" in name or "segment" in name:
        return "types"
    return "ids" if spec.dtype in ("i32", "u32", "i64") else spec.name
