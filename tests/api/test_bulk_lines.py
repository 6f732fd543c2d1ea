"""The lines of a batch's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.bulk.lines import Line, Reader, TooLong, read_file
from tasks.bulks import LineFault

URL = "/v1/chat/completions"
GOOD = {"custom_id": "a", "method": "POST", "url": URL, "body": {"n": 1}}


def read(value: Any) -> Line | LineFault:
    return Reader(URL).read(7, value if isinstance(value, bytes) else json.dumps(value).encode())


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        (b'{"a": NaN}', "invalid_json_line", None),
        (b"[" * 200, "invalid_json_line", None),
        ([1], "invalid_json_line", None),
        ({}, "missing_required_parameter", "custom_id"),
        ({**GOOD, "custom_id": None}, "missing_required_parameter", "custom_id"),
        ({**GOOD, "custom_id": 7}, "invalid_custom_id", "custom_id"),
        ({**GOOD, "custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({**GOOD, "custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
        ({**GOOD, "method": "GET"}, "invalid_method", "method"),
        ({**GOOD, "url": "/v1/embeddings"}, "mismatched_url", "url"),
        ({**GOOD, "body": [1]}, "invalid_type", "body"),
        ({**GOOD, "body": {"stream": True}}, "unsupported_value", "body.stream"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_by_number_and_name(value: Any, code: str, param: str) -> None:
    fault = read(value)
    assert isinstance(fault, LineFault)
    assert (fault.code, fault.param, fault.line) == (code, param, 7)
    assert "the body is" not in fault.message


def test_what_nobody_asks_for_does_not_matter() -> None:
    assert read({**GOOD, "body": {"stream": False}, "note": 1}) == Line(7, "a", {"stream": False})


def test_a_name_is_there_once() -> None:
    reader = Reader(URL)
    raw = json.dumps(GOOD).encode()
    assert isinstance(reader.read(1, raw), Line)
    fault = reader.read(2, raw)
    assert isinstance(fault, LineFault)
    assert (fault.code, "line 1" in fault.message) == ("duplicate_custom_id", True)


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(raw: bytes) -> None:
    assert isinstance(Reader(URL).read(1, raw), LineFault)


NAMES = st.sampled_from(["custom_id", "method", "url", "body", "stream"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=40)
def test_no_json_is_too_strange(value: Any) -> None:
    assert isinstance(read(value), LineFault)


RAW_LINES = st.lists(st.binary(min_size=1, max_size=12).filter(lambda raw: b"\n" not in raw))


@given(RAW_LINES, st.booleans())
def test_a_file_is_read_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes], ends: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"\n".join(raws) + (b"\n" if ends and raws else b""))
    found = [each for each in read_file(path, 100) if isinstance(each, tuple)]
    kept = [(number, raw) for number, raw in enumerate(raws, 1)]
    if kept:
        kept[0] = (1, kept[0][1].removeprefix(b"\xef\xbb\xbf"))
    assert [(number, raw.rstrip(b"\n")) for number, raw in found] == [
        (number, raw) for number, raw in kept if raw.strip()
    ]


def test_a_line_that_is_too_long_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf1\n\n" + b"2" * 11 + b"\n3\n")
    assert list(read_file(path, 10)) == [(1, b"1\n"), TooLong(3)]
