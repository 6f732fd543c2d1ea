"""The graph file of the virtual card: a plain ONNX file that carries its shape groups in its metadata.

The reader walks the outermost level of the protobuf and seeks past the weights, so a catalog can look at
a package of gigabytes in milliseconds and without the ``onnx`` package. The format for people who write such
files: docs/virtual-card.md.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hardware.binding import CACHE_INPUTS, base_name
from hardware.card import NUMPY_DTYPES, ShapeGroup, TensorSpec
from hardware.errors import GraphRejected

FORMAT_KEY = "hearth.format"
FORMAT_VERSION = "1"
GROUPS_KEY = "hearth.groups"
STEP_MS_KEY = "hearth.step_ms"
MIN_OPSET = 17
MAX_GROUPS = 1024
MAX_TENSORS = 1024
MAX_TENSOR_BYTES = 1 << 40
MAX_ENTRY_BYTES = 4 << 20

# Field numbers of ModelProto, OperatorSetIdProto and StringStringEntryProto.
# Source: onnx/onnx, onnx/onnx.proto3
_OPSET_IMPORT, _METADATA_PROPS = 8, 14
_FIRST, _SECOND = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a graph file says about itself.

    ``placeholders``: by group, the inputs that are bound and fed like any other but stand for a history of
    no rows. ``step_ms``: by group, how long one execution takes on the modelled card, beyond the call itself.
    """

    groups: tuple[ShapeGroup, ...]
    placeholders: tuple[frozenset[str], ...]
    step_ms: tuple[float, ...]
    metadata: Mapping[str, str]


def read_groups(path: Path) -> GraphFile:
    """Read what ``path`` says about itself, never its weights.

    Raises:
        GraphRejected: missing, truncated, no ONNX file, or without usable shape groups.
    """
    try:
        with path.open("rb") as file:
            metadata, opset = _header(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise GraphRejected(f"{path}: {error.strerror or error}") from None
    except _Damaged as error:
        raise GraphRejected(f"{path} is not a whole ONNX file: {error}") from None
    try:
        return _graph_file(metadata, opset)
    except _Damaged as error:
        raise GraphRejected(f"{path}: {error}") from None


def encode_groups(groups: Sequence[ShapeGroup], without_history: Collection[int] = ()) -> str:
    """The value of the metadata key ``hearth.groups``.

    ``without_history`` names the groups (by index) whose ``K_cache`` and ``V_cache`` are placeholders of any
    shape: the graph is given caches of 0 rows there.
    """
    entries: list[dict[str, Any]] = []
    for group in groups:
        entry: dict[str, Any] = {
            "inputs": [[spec.name, spec.dtype, list(spec.shape)] for spec in group.inputs],
            "outputs": [[spec.name, spec.dtype, list(spec.shape)] for spec in group.outputs],
        }
        if group.index in without_history:
            entry["history"] = 0
        entries.append(entry)
    return json.dumps(entries, separators=(",", ":"))


class _Damaged(Exception):
    """What is wrong with the bytes, without the file's name."""


def _header(file: BinaryIO, size: int) -> tuple[dict[str, str], int]:
    metadata: dict[str, str] = {}
    opset = 0
    for number, length in _fields(file, size):
        end = file.tell() + length
        if number in (_OPSET_IMPORT, _METADATA_PROPS):
            if length > MAX_ENTRY_BYTES:
                raise _Damaged(f"a metadata entry of {length} bytes")
            body = file.read(length)
            if number == _METADATA_PROPS:
                key, value = _pair(body)
                metadata[key] = value
            else:
                opset = max(opset, _default_opset(body))
        file.seek(end)
    return metadata, opset


def _fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield (field number, bytes of its body) with the file standing at the body; 0 bytes for numbers."""
    while file.tell() < size:
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(file)
            length = 0
        elif kind == _LENGTH:
            length = _varint(file)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _Damaged(f"no protobuf at byte {file.tell()}")
        if number == 0:
            raise _Damaged(f"no protobuf at byte {file.tell()}")
        if length > size - file.tell():
            raise _Damaged("it ends early")
        yield number, length


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise _Damaged("it ends early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Damaged("a number without end")


def _pair(body: bytes) -> tuple[str, str]:
    texts = {_FIRST: "", _SECOND: ""}
    for number, text in _strings(body):
        if number in texts:
            try:
                texts[number] = text.decode()
            except UnicodeDecodeError:
                raise _Damaged("metadata that is not UTF-8") from None
    return texts[_FIRST], texts[_SECOND]


def _default_opset(body: bytes) -> int:
    """The opset version when the entry is for ONNX's own domain, else 0."""
    domain, version = b"", 0
    at = 0
    while at < len(body):
        tag, at = _varint_of(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length, at = _varint_of(body, at)
            domain = body[at : at + length] if number == _FIRST else domain
            at += length
        elif kind == _VARINT:
            value, at = _varint_of(body, at)
            version = value if number == _SECOND else version
        else:
            raise _Damaged("an opset entry of unknown form")
    return version if domain in (b"", b"ai.onnx") else 0


def _strings(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        tag, at = _varint_of(body, at)
        if tag & 7 != _LENGTH:
            raise _Damaged("a metadata entry of unknown form")
        length, at = _varint_of(body, at)
        if length > len(body) - at:
            raise _Damaged("a metadata entry that ends early")
        yield tag >> 3, body[at : at + length]
        at += length


def _varint_of(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            raise _Damaged("an entry that ends early")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Damaged("a number without end")


def _graph_file(metadata: dict[str, str], opset: int) -> GraphFile:
    version = metadata.get(FORMAT_KEY)
    if version is None:
        raise _Damaged(f"no graph for the virtual card: it has no metadata {FORMAT_KEY!r}")
    if version != FORMAT_VERSION:
        raise _Damaged(f"{FORMAT_KEY} is {version!r}; this card reads {FORMAT_VERSION!r}")
    if opset < MIN_OPSET:
        raise _Damaged(f"opset {opset}; this card demands {MIN_OPSET} or later")
    entries = _json(metadata, GROUPS_KEY)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_GROUPS:
        raise _Damaged(f"{GROUPS_KEY} must be a list of 1 to {MAX_GROUPS} groups")
    groups = tuple(_group(index, entry) for index, entry in enumerate(entries))
    placeholders = tuple(_placeholders(group, entry) for group, entry in zip(groups, entries, strict=True))
    return GraphFile(groups, placeholders, _step_ms(metadata, len(groups)), metadata)


def _json(metadata: dict[str, str], key: str) -> Any:
    try:
        return json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError):
        raise _Damaged(f"{key} is not JSON") from None


def _group(index: int, entry: Any) -> ShapeGroup:
    if not isinstance(entry, dict) or not {"inputs", "outputs"} <= set(entry):
        raise _Damaged(f"group {index} must be an object with inputs and outputs")
    unknown = sorted(set(entry) - {"inputs", "outputs", "history"})
    if unknown:
        raise _Damaged(f"group {index} has an unknown key {unknown[0]!r}")
    inputs, outputs = (_specs(index, entry[side]) for side in ("inputs", "outputs"))
    names = [spec.name for spec in (*inputs, *outputs)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _Damaged(f"group {index} names {twice[0]!r} twice")
    return ShapeGroup(index, inputs, outputs)


def _specs(index: int, entries: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_TENSORS:
        raise _Damaged(f"group {index}: inputs and outputs must be lists of 1 to {MAX_TENSORS} tensors")
    return tuple(_spec(index, entry) for entry in entries)


def _spec(index: int, entry: Any) -> TensorSpec:
    match entry:
        case [str(name), str(dtype), list(shape)] if _is_name(name) and all(
            _is_dimension(size) for size in shape
        ):
            pass
        case _:
            raise _Damaged(f"group {index}: {reprlib.repr(entry)} is not [name, dtype, [sizes from 1]]")
    if dtype not in NUMPY_DTYPES:
        raise _Damaged(f"group {index}: {name!r} has dtype {dtype!r}; known are {', '.join(NUMPY_DTYPES)}")
    if len(shape) > 8 or math.prod(shape) * NUMPY_DTYPES[dtype].itemsize > MAX_TENSOR_BYTES:
        raise _Damaged(f"group {index}: {name!r} is larger than any card")
    return TensorSpec(name, dtype, tuple(shape))


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 256 and name.isprintable()


def _is_dimension(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1


def _placeholders(group: ShapeGroup, entry: dict[str, Any]) -> frozenset[str]:
    if "history" not in entry:
        return frozenset()
    if entry["history"] != 0 or isinstance(entry["history"], bool):
        raise _Damaged(f'group {group.index}: "history" may only be 0')
    names = frozenset(s.name for s in group.inputs if base_name(s.name, group.index) in CACHE_INPUTS)
    if not names:
        raise _Damaged(f'group {group.index} has "history" but no cache input')
    return names


def _step_ms(metadata: dict[str, str], count: int) -> tuple[float, ...]:
    value = _json(metadata, STEP_MS_KEY)
    values = value if isinstance(value, list) else [value or 0] * count
    if len(values) != count or not all(_is_duration(item) for item in values):
        raise _Damaged(f"{STEP_MS_KEY} must be milliseconds: one number, or one for each of {count} groups")
    return tuple(float(item) for item in values)


def _is_duration(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 3_600_000
