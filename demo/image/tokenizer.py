"""The model's tokenizer in CLIP's form: byte-pair merges that make one token of every word it knows.

Whatever else is written falls into letters, so no prompt is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"

Pair = tuple[str, str]


def merges_for(words: Sequence[str]) -> list[Pair]:
    """Byte-pair merges, the commonest pair first, until every one of ``words`` is one piece."""
    pieces = {word: [*word[:-1], word[-1] + _WORD_END] for word in words}
    merges: list[Pair] = []
    while True:
        pairs = Counter(pair for parts in pieces.values() for pair in pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}


def vocabulary(merges: Sequence[Pair]) -> dict[str, int]:
    """CLIP's order: the 256 bytes, the same at a word's end, the merges, then the two marks."""
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + _WORD_END for letter in letters)]
    pieces += ["".join(pair) for pair in merges]
    return {piece: number for number, piece in enumerate([*pieces, START, END])}


def write(words: Sequence[str], directory: Path) -> int:
    """Write ``vocab.json`` and ``merges.txt``; returns the number of tokens."""
    merges = merges_for(words)
    entries = vocabulary(merges)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.json").write_text(json.dumps(entries, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(entries)


def _merged(parts: Sequence[str], pair: Pair) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
