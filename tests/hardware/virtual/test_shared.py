from __future__ import annotations

import mmap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.virtual.shared import SharedRecord
from tests.hardware.examples import patient

SIZE = 64


def pages() -> mmap.mmap:
    return mmap.mmap(-1, 8 + SharedRecord.room(SIZE))


def test_nothing_was_written_at_first() -> None:
    record = SharedRecord(pages(), 8, SIZE)
    assert record.read() is None
    assert not record.has_news()


def test_the_last_record_is_read() -> None:
    shared = pages()
    writer, reader = SharedRecord(shared, 8, SIZE), SharedRecord(shared, 8, SIZE)
    for number in range(5):
        writer.write(bytes([number]) * SIZE)
        assert reader.has_news()
        assert reader.read() == bytes([number]) * SIZE
        assert not reader.has_news()
    assert not writer.has_news()


def test_a_writer_that_comes_later_goes_on() -> None:
    shared = pages()
    SharedRecord(shared, 8, SIZE).write(b"a" * SIZE)
    SharedRecord(shared, 8, SIZE).write(b"b" * SIZE)
    assert SharedRecord(shared, 8, SIZE).read() == b"b" * SIZE


def test_the_size_is_fixed() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        SharedRecord(pages(), 8, SIZE).write(b"short")


@patient
@given(st.integers(1, 6), st.integers(0, SIZE + 15), st.booleans())
def test_a_writer_killed_at_any_byte_leaves_the_last_whole_record(
    writes: int, cut: int, backwards: bool
) -> None:
    shared = pages()
    writer = SharedRecord(shared, 0, SIZE)
    for number in range(writes):
        writer.write(bytes([number]) * SIZE)
    before = shared[:]
    writer.write(bytes([writes]) * SIZE)
    after = shared[:]
    # Only some of the bytes that the write changes have arrived, from either end.
    start = next(at for at in range(len(before)) if before[at] != after[at])
    half = (
        before[: start + cut] + after[start + cut :]
        if backwards
        else after[: start + cut] + before[start + cut :]
    )
    shared[:] = half
    got = SharedRecord(shared, 0, SIZE).read()
    assert got in (bytes([writes]) * SIZE, bytes([writes - 1]) * SIZE)


def test_news_of_a_half_written_record_stays_news() -> None:
    """A reader that looks in the middle of a write takes the old record and asks again the next time."""
    shared = pages()
    writer, reader = SharedRecord(shared, 0, SIZE), SharedRecord(shared, 0, SIZE)
    writer.write(b"a" * SIZE)
    assert reader.read() == b"a" * SIZE
    before = shared[:]
    writer.write(b"b" * SIZE)
    after = shared[:]
    shared[:] = after[:12] + before[12:]  # the sequence number has arrived, the record has not
    assert reader.has_news()
    assert reader.read() == b"a" * SIZE
    shared[:] = after
    assert reader.has_news()
    assert reader.read() == b"b" * SIZE


def test_a_reader_beside_a_busy_writer_sees_only_whole_records_in_order() -> None:
    shared = pages()
    writer, reader = SharedRecord(shared, 0, SIZE), SharedRecord(shared, 0, SIZE)
    writer.write(bytes(SIZE))
    done = threading.Event()

    def write() -> None:
        for number in range(20_000):
            writer.write(number.to_bytes(4, "big") * (SIZE // 4))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    last = 0
    while not done.is_set():
        body = reader.read()
        assert body is not None
        assert body == body[:4] * (SIZE // 4)
        number = int.from_bytes(body[:4], "big")
        assert number >= last
        last = number
    thread.join()
