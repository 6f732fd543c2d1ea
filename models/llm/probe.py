"""What a card does right with a model: rows written in place, and chunks. Tried, not assumed.

A card that gets either wrong does so in silence: answers are merely bad. So the fast ways are compared with
the ones that cannot go wrong: rows copied on the card, and single tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.card import KvWrite, Prefill, Streams, View
from hardware.errors import FeedMismatch
from models.llm.geometry import PrefillGroup
from models.llm.memory import KvCache
from models.llm.network import Network

LEAST_COSINE = 0.999
"""The hidden rows of a chunk and of a single step differ by rounding; what is wrong is far from this."""

_TAIL = 5
"""Tokens behind the last whole chunk, so that one that is not full is tried as well."""

_GUARD = b"\xab\x3c\x15\xbd"
"""0.0209 and −0.0364 in bf16: rows as a cache could hold them, harmless behind a mask."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The fastest ways that were seen to be right, and what was wrong with the others."""

    kv_write: KvWrite
    prefill: Prefill
    problems: tuple[str, ...] = ()


def probe(network: Network) -> Findings:
    """Try both fast ways. Works in the network's cache and leaves it zeroed.

    Rows take a dozen executes; chunks take about two chunks' worth of single tokens.

    Raises:
        CardLost, CardTimeout: the card did not survive it.
    """
    problems: list[str] = []
    row_problem = _tried(_row_problem, network)
    if row_problem:
        problems.append(f"rows in place: {row_problem}")
    network.drive(KvWrite.COPY, Prefill.CHUNK)
    chunk_problem = _tried(_chunk_problem, network)
    if chunk_problem:
        problems.append(f"chunks: {chunk_problem}")
    _clear(network.cache, network.geometry.context)
    return Findings(
        KvWrite.COPY if row_problem else KvWrite.ROW,
        Prefill.DECODE if chunk_problem else Prefill.CHUNK,
        tuple(problems),
    )


def stream_problem(network: Network, card: Streams) -> str | None:
    """Whether a token that goes over a stream differs from one that goes step by step. Uses row 0."""
    made = []
    # The second one leaves something else behind, so that what is not written shows.
    for on, token in ((False, _token(network, 0)), (False, _token(network, 1)), (True, _token(network, 0))):
        card.stream(on)
        _clear(network.cache, 1)
        logits = network.decoder.forward(token, 0).tobytes()
        layers = range(len(network.cache.keys))
        made.append((logits, [_read(view) for layer in layers for view in network.cache.row(layer, 0)]))
    _clear(network.cache, 1)
    if made[0] == made[2]:
        return None
    return "logits differ" if made[0][0] != made[2][0] else "K/V rows differ"


def _tried(find: Callable[[Network], str | None], network: Network) -> str | None:
    try:
        return find(network)
    except FeedMismatch as error:  # a card that will not have the binding at all
        return str(error)


def _row_problem(network: Network) -> str | None:
    """The first and the last layer at the first, second and last row, both ways, with guards either side."""
    if not network.decoder.may_write_rows():
        return "the rows of this model are of a size that is not known to work"
    context = network.geometry.context
    for layer in sorted({0, len(network.geometry.layers) - 1}):
        for position in sorted({0, min(1, context - 1), context - 1}):
            problem = _row_differs(network, layer, position)
            if problem:
                return f"layer {layer}, row {position}: {problem}"
    return None


def _row_differs(network: Network, layer: int, position: int) -> str | None:
    cache, decoder = network.cache, network.decoder
    around = range(max(0, position - 1), min(network.geometry.context, position + 2))
    results = []
    for in_place in (False, True):
        _guard(cache, layer, around)
        results.append(decoder.run_layer(layer, _token(network, position), position, in_place=in_place))
        for at in around:
            stands = tuple(_read(view) for view in cache.row(layer, at))
            if (at != position or not in_place) and any(map(_is_not_guard, stands)):
                return f"row {at} changed"
    copied, placed = results
    if copied[:2] != placed[:2]:
        return "it holds something else than the copied row"
    return None if copied[2] == placed[2] else "what the layer gives on is something else"


def _chunk_problem(network: Network) -> str | None:
    """Prompts that end in a chunk that is not full, and then every group by itself, against single tokens."""
    groups = network.prefill.groups
    if not groups:
        return None
    chunk = groups[0].chunk
    reach = min(groups[-1].history + groups[-1].chunk, network.geometry.context)
    lengths = sorted({min(count * chunk + _TAIL, reach) for count in (1, 2)})
    tokens = [_token(network, position) for position in range(lengths[-1])]
    keys, hidden = _by_single_tokens(network, tokens)
    for length in lengths:
        _clear(network.cache, length)
        for group, start, count in _cut(groups, length):
            problem = _chunk_differs(network, group, tokens[start : start + count], start, keys, hidden)
            if problem:
                return problem
    for group in groups:  # the rows before and behind are right, so each can be tried where it stands
        start = min(chunk, group.history, lengths[-1] - 1)
        count = min(group.chunk, lengths[-1] - start)
        _blank(network.cache, 0, start, count)
        problem = _chunk_differs(network, group, tokens[start : start + count], start, keys, hidden)
        if problem:
            return problem
    return None


def _cut(groups: Sequence[PrefillGroup], length: int) -> Iterator[tuple[PrefillGroup, int, int]]:
    start = 0
    while start < length:
        group = next(each for each in groups if each.history >= start)
        count = min(group.chunk, length - start)
        yield group, start, count
        start += count


def _by_single_tokens(network: Network, tokens: Sequence[int]) -> tuple[bytes, list[NDArray[np.float64]]]:
    """All K rows of layer 0, and the last hidden row of every token."""
    last = network.decoder.hidden[len(network.geometry.layers) % 2]
    hidden = []
    for position, token in enumerate(tokens):
        network.decoder.remember(token, position)
        hidden.append(_floats(last.read(0, last.size_bytes)))
    keys, _ = network.cache.history(0, len(tokens))
    return _read(keys), hidden


def _chunk_differs(
    network: Network,
    group: PrefillGroup,
    tokens: Sequence[int],
    start: int,
    keys: bytes,
    hidden: Sequence[NDArray[np.float64]],
) -> str | None:
    row = _floats(_read(network.prefill.run(tokens, start, group)))
    width = network.cache.row_bytes[0]
    made = network.cache.keys[0].read(start * width, len(tokens) * width)
    where = f"group {group.index}, tokens {start} to {start + len(tokens)}"
    if made != keys[start * width : (start + len(tokens)) * width]:
        return f"{where}: K of the first layer is not that of single tokens"
    cosine = _cosine(row, hidden[start + len(tokens) - 1])
    if not cosine >= LEAST_COSINE:
        return f"{where}: the last hidden row has a cosine of {cosine:.4f} to that of single tokens"
    return None


def _token(network: Network, position: int) -> int:
    """Tokens all over the vocabulary, no two neighbours alike."""
    return (position * 7919 + 1) % network.geometry.vocab


def _guard(cache: KvCache, layer: int, rows: range) -> None:
    size_bytes = cache.row_bytes[layer] * len(rows)
    data = (_GUARD * (size_bytes // len(_GUARD) + 1))[:size_bytes]
    for buffer in (cache.keys[layer], cache.values[layer]):
        buffer.write(data, rows.start * cache.row_bytes[layer])


def _is_not_guard(row: bytes) -> bool:
    return row != (_GUARD * (len(row) // len(_GUARD) + 1))[: len(row)]


def _clear(cache: KvCache, rows: int) -> None:
    for layer in range(len(cache.keys)):
        _blank(cache, layer, 0, rows)


def _blank(cache: KvCache, layer: int, start: int, rows: int) -> None:
    zeros = bytes(rows * cache.row_bytes[layer])
    for buffer in (cache.keys[layer], cache.values[layer]):
        buffer.write(zeros, start * cache.row_bytes[layer])


def _read(view: View) -> bytes:
    return view.buffer.read(view.offset_bytes, view.size_bytes)


def _floats(bits: bytes) -> NDArray[np.float64]:
    wide = np.frombuffer(bits, np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32).astype(np.float64)


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else 0.0
