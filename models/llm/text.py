"""Token ids in, whole text out: no half character ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Decode = Callable[[list[int]], str]
REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that will never change, and exactly the token ids it was made of."""

    text: str
    token_ids: tuple[int, ...]


class Detokenizer:
    """Decodes token by token; a piece comes out once its last character is whole.

    Only a window is decoded each time: the ids of the last piece, for tokenizers whose text depends on what
    stands before (a leading space), and the ids since. Pieces end where a character ends, so decoding from
    there on gives what decoding everything would have given.

        stream = Detokenizer(tokenizer.decode)
        for token in tokens:
            piece = stream.push(token)
        rest = stream.flush()

    Joined, the texts of all pieces equal ``decode`` of all ids.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._before: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> Piece | None:
        """The text that ``token`` completes, or None while a character is still open."""
        self._pending.append(token)
        text = self._new_text()
        if not text or text.endswith(REPLACEMENT):
            return None
        return self._release(text)

    def flush(self) -> Piece | None:
        """What is left at the end; bytes that never became a character show as U+FFFD."""
        return self._release(self._new_text()) if self._pending else None

    def _new_text(self) -> str:
        before = self._decode(self._before) if self._before else ""
        return self._decode(self._before + self._pending)[len(before) :]

    def _release(self, text: str) -> Piece:
        piece = Piece(text, tuple(self._pending))
        # The text of `_before` must be known by itself, so it starts where a character starts too.
        self._before, self._pending = self._pending, []
        return piece
