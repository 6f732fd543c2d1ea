"""Keeps training text away from held-out questions: near copies of one are not trained on.

Two texts are near when, without marks, capitals, endings and the words every question is built
from, they share three of four words of both together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from demo.chat.words import TEXTS

NEAR = 0.75
# What questions are built from; a word here says nothing about what is asked. All ask about the server.
FRAME_WORDS = frozenset(TEXTS["frame_words"].split())


@lru_cache(maxsize=100_000)
def content(text: str) -> frozenset[str]:
    """What the text is about: its words without endings, or all its words where none is left."""
    words = re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))
    told = frozenset(_stem(word) for word in words if word not in FRAME_WORDS)
    return told or frozenset(words)


def _stem(word: str) -> str:
    """The word without the usual endings of English: jobs, cancelled, swapping."""
    for ending in ("ings", "ing", "ies", "es", "ed", "er", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    # A doubled last letter comes from the ending: stopped, swapping.
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


class HeldOut:
    """A set of held-out questions that knows what is near to one of them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_word: dict[str, list[frozenset[str]]] = {}
        for told in {content(text) for text in texts}:
            for word in told:
                self._by_word.setdefault(word, []).append(told)

    def near(self, text: str) -> bool:
        """Whether ``text`` is a held-out question in other dress."""
        asked = content(text)
        found = (held for word in asked for held in self._by_word.get(word, ()))
        return any(len(asked & held) >= NEAR * len(asked | held) for held in found)
