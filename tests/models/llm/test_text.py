"""Whole characters and stop strings, at every possible border of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.llm.text import Detokenizer, Piece, TextStream

SIMPLE = "abSTOP é漢👩‍🍳\ufffd\n"
texts = st.text(st.sampled_from(SIMPLE), max_size=24)
stops = st.lists(st.text(st.sampled_from("abSTé漢"), min_size=1, max_size=4), max_size=3)


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


def stream_all(tokens: Sequence[bytes], stop: Sequence[str] = ()) -> tuple[list[Piece], bool]:
    stream = TextStream(Bytes(tokens).decode, stop)
    pieces = []
    for token in range(len(tokens)):
        piece = stream.push(token)
        pieces += [piece] if piece else []
        if stream.stopped:
            return pieces, True
    last = stream.finish()
    return pieces + ([last] if last else []), stream.stopped


@given(texts, st.lists(st.integers(0, 200), max_size=40))
def test_any_cut_of_any_text_gives_the_text_in_whole_characters(text: str, cuts: list[int]) -> None:
    tokens = tokens_of(text.encode(), cuts)
    stream = Detokenizer(Bytes(tokens).decode)
    pieces = [piece for token in range(len(tokens)) if (piece := stream.push(token)) is not None]
    rest = stream.flush()
    pieces += [rest] if rest else []
    assert "".join(piece.text for piece in pieces) == text
    assert [token for piece in pieces for token in piece.token_ids] == list(range(len(tokens)))


@given(st.binary(max_size=24), st.lists(st.integers(0, 200), max_size=24))
def test_any_bytes_at_all_give_what_decoding_them_at_once_gives(data: bytes, cuts: list[int]) -> None:
    pieces, _ = stream_all(tokens_of(data, cuts))
    assert "".join(piece.text for piece in pieces) == data.decode("utf-8", "replace")


@given(texts, stops, st.lists(st.integers(0, 200), max_size=40))
def test_a_stop_string_ends_the_text_wherever_tokens_are_cut(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    pieces, stopped = stream_all(tokens_of(text.encode(), cuts), stop)
    said = "".join(piece.text for piece in pieces)
    found = [at for at in map(text.find, stop) if at >= 0]
    if not found:
        assert (said, stopped) == (text, False)
    else:
        # Which of several stop strings ends it can depend on which is complete first, never on less.
        assert stopped
        assert text.startswith(said)
        assert any(text.startswith(each, len(said)) for each in stop)


@given(texts, stops, st.lists(st.integers(0, 200), max_size=40))
def test_nothing_that_a_stop_string_takes_back_was_told_before(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    pieces, _ = stream_all(tokens_of(text.encode(), cuts), stop)
    said = "".join(piece.text for piece in pieces)
    assert not any(each in said for each in stop)


@given(texts, stops, st.lists(st.integers(0, 200), max_size=40), st.integers(0, 10))
def test_a_stream_that_is_fed_what_was_told_goes_on_where_it_was(
    text: str, stop: list[str], cuts: list[int], kept: int
) -> None:
    tokens = tokens_of(text.encode(), cuts)
    pieces, _ = stream_all(tokens, stop)
    told = [token for piece in pieces[:kept] for token in piece.token_ids]
    stream = TextStream(Bytes(tokens).decode, stop)
    stream.resume(told)
    rest = []
    for token in range(len(told), len(tokens)):
        if stream.stopped:
            break
        piece = stream.push(token)
        rest += [piece] if piece else []
    if not stream.stopped:
        last = stream.finish()
        rest += [last] if last else []
    assert rest == pieces[kept:]


def test_a_piece_waits_for_the_last_byte_of_its_character() -> None:
    stream = Detokenizer(Bytes([b"a\xe6", b"\xbc", b"\xa2!"]).decode)
    assert stream.push(0) is None
    assert stream.push(1) is None
    assert stream.push(2) == Piece("a漢!", (0, 1, 2))


def test_what_may_begin_a_stop_string_comes_with_the_token_that_decides() -> None:
    stream = TextStream(Bytes([b"one ", b"ST", b"ill"]).decode, ["STOP"])
    assert stream.push(0) == Piece("one ", (0,))
    assert stream.push(1) is None
    assert stream.push(2) == Piece("STill", (1, 2))


def test_text_before_a_stop_string_in_the_same_token_is_told() -> None:
    stream = TextStream(Bytes([b"one STOP two"]).decode, ["STOP"])
    assert stream.push(0) == Piece("one ", (0,))
    assert stream.stopped


def test_last_words_that_were_told_already_are_not_told_again() -> None:
    tokens = [b"one ", b"ST"]
    stream = TextStream(Bytes(tokens).decode, ["STOP"])
    stream.resume([0, 1])
    assert stream.finish() is None


def test_text_that_stays_incomplete_shows_a_replacement_character_at_the_end() -> None:
    pieces, _ = stream_all([b"ab", b"\xe6\xbc"])
    assert pieces == [Piece("ab", (0,)), Piece("\ufffd", (1,))]
