"""Token ids in, whole text out: no half character, and nothing that may turn out to be a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def forget(self) -> None:
        """Take what is pending as told."""
        if self._pending:
            self._release("")

    def _new_text(self) -> str:
        before = self._decode(self._before) if self._before else ""
        return self._decode(self._before + self._pending)[len(before) :]

    def _release(self, text: str) -> Piece:
        piece = Piece(text, tuple(self._pending))
        # The text of `_before` must be known by itself, so it starts where a character starts too.
        self._before, self._pending = self._pending, []
        return piece


class TextStream:
    """A detokenizer that also watches for stop strings, across the borders of tokens.

    Pieces that could still become part of a stop string are held back. When one appears, ``stopped`` turns
    True, and the piece ends right before it.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = ()) -> None:
        self._detokenizer = Detokenizer(decode)
        self._stop = tuple(each for each in stop if each)
        self._held: list[Piece] = []
        self.stopped = False

    def resume(self, token_ids: Sequence[int]) -> None:
        """Go on after an earlier stream that has told exactly these ids, whatever it may have held back.

        It can only have told what could still become a stop string, or half a character, as its last words.
        """
        for token in token_ids:
            self.push(token)
        self._detokenizer.forget()
        self._held.clear()

    def push(self, token: int) -> Piece | None:
        """What may be told now, if anything."""
        piece = self._detokenizer.push(token)
        return self._watch(piece) if piece is not None else None

    def finish(self) -> Piece | None:
        """Everything that was held back, when no more tokens come."""
        rest = self._detokenizer.flush()
        last = self._watch(rest) if rest is not None else None
        return _joined([*([last] if last else []), *self._take(len(self._held))])

    def _watch(self, piece: Piece) -> Piece | None:
        self._held.append(piece)
        if not self._stop:
            return _joined(self._take(1))
        text = "".join(each.text for each in self._held)
        found = min((at for at in map(text.find, self._stop) if at >= 0), default=None)
        if found is not None:
            self.stopped = True
            held = self._take(len(self._held))
            return Piece(text[:found], tuple(token for each in held for token in each.token_ids))
        return _joined(self._take(self._safe(text)))

    def _safe(self, text: str) -> int:
        """How many held pieces no stop string can reach any more."""
        reach = max(_overlap(text, stop) for stop in self._stop)
        end = 0
        for count, piece in enumerate(self._held):
            end += len(piece.text)
            if end > len(text) - reach:
                return count
        return len(self._held)

    def _take(self, count: int) -> list[Piece]:
        taken, self._held = self._held[:count], self._held[count:]
        return taken


def _joined(pieces: Sequence[Piece]) -> Piece | None:
    if not pieces:
        return None
    return Piece(
        "".join(each.text for each in pieces), tuple(token for each in pieces for token in each.token_ids)
    )


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
