"""Whole characters, at every possible border of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.llm.text import Detokenizer, Piece

SIMPLE = "abSTOP é漢👩‍🍳\ufffd\n"
texts = st.text(st.sampled_from(SIMPLE), max_size=24)


def tokens_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut into tokens at any bytes, empty tokens (as special ones decode to) among them."""
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


class Bytes:
    """A tokenizer whose token ids stand for given byte strings."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = tokens

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.tokens[token] for token in ids).decode("utf-8", "replace")


def pieces_of(tokens: Sequence[bytes]) -> list[Piece]:
    stream = Detokenizer(Bytes(tokens).decode)
    pieces = [piece for token in range(len(tokens)) if (piece := stream.push(token)) is not None]
    rest = stream.flush()
    return pieces + ([rest] if rest else [])


@given(texts, st.lists(st.integers(0, 200), max_size=40))
def test_any_cut_of_any_text_gives_the_text_in_whole_characters(text: str, cuts: list[int]) -> None:
    tokens = tokens_of(text.encode(), cuts)
    pieces = pieces_of(tokens)
    assert "".join(piece.text for piece in pieces) == text
    assert [token for piece in pieces for token in piece.token_ids] == list(range(len(tokens)))


@given(st.binary(max_size=24), st.lists(st.integers(0, 200), max_size=24))
def test_any_bytes_at_all_give_what_decoding_them_at_once_gives(data: bytes, cuts: list[int]) -> None:
    assert "".join(piece.text for piece in pieces_of(tokens_of(data, cuts))) == data.decode(
        "utf-8", "replace"
    )


def test_a_piece_waits_for_the_last_byte_of_its_character() -> None:
    stream = Detokenizer(Bytes([b"a\xe6", b"\xbc", b"\xa2!"]).decode)
    assert stream.push(0) is None
    assert stream.push(1) is None
    assert stream.push(2) == Piece("a漢!", (0, 1, 2))


def test_text_that_stays_incomplete_shows_a_replacement_character_at_the_end() -> None:
    assert pieces_of([b"ab", b"\xe6\xbc"]) == [Piece("ab", (0,)), Piece("\ufffd", (1,))]
