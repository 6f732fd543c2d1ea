"""The lines of a batch's file: what each has to hold. Pure, but for ``read_file``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.errors import Refusal
from api.limits import parse_json
from api.openai.faults import json_name
from tasks.bulks import LineFault

_BOM = b"\xef\xbb\xbf"
_CUSTOM_ID_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch. ``number`` is its place in the file, from 1, blank lines counted."""

    number: int
    custom_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line of more bytes than a request may have."""

    number: int


def read_file(path: Path, most_bytes: int) -> Iterator[tuple[int, bytes] | TooLong]:
    """The lines that are not blank, with their numbers. Ends behind one that is too long. Raises OSError."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(most_bytes + 1):
            number += 1
            if len(raw) > most_bytes:
                yield TooLong(number)
                return
            if number == 1:
                raw = raw.removeprefix(_BOM)
            if raw.strip():
                yield number, raw


def checked_before(number: int, raw: bytes) -> Line:
    """A line of a file that ``Reader`` has found good; rules may have changed since.

    Raises:
        ValueError, KeyError, TypeError: the file is not what it was.
    """
    value = json.loads(raw)
    return Line(number, value["custom_id"], value["body"])


class Reader:
    """Takes a file's lines one by one; knows the names that were there before.

    ``endpoint`` is the one that every line has to name.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seen: dict[str, int] = {}

    def read(self, number: int, raw: bytes) -> Line | LineFault:
        """The line ``raw``, or what is wrong with it first."""
        try:
            value = parse_json(raw)
        except Refusal as refusal:
            what = refusal.problem.message.replace("the body", "the line", 1)
            return LineFault("invalid_json_line", what, None, number)
        if not isinstance(value, dict):
            what = f"the line is to be a JSON object, not {json_name(value)}"
            return LineFault("invalid_json_line", what, None, number)
        return self._fault_of(number, value) or Line(number, value["custom_id"], value["body"])

    def _fault_of(self, number: int, value: dict[str, Any]) -> LineFault | None:
        for name in ("custom_id", "method", "url", "body"):
            if value.get(name) is None:
                return LineFault("missing_required_parameter", f"'{name}' is missing", name, number)
        return (
            self._of_custom_id(number, value["custom_id"])
            or self._of_address(number, value)
            or self._of_body(number, value["body"])
        )

    def _of_custom_id(self, number: int, custom_id: object) -> LineFault | None:
        if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= _CUSTOM_ID_CHARACTERS:
            what = f"'custom_id' should be a string of 1 to {_CUSTOM_ID_CHARACTERS} characters"
            return LineFault("invalid_custom_id", what, "custom_id", number)
        first = self._seen.setdefault(custom_id, number)
        if first != number:
            what = f"the custom_id of line {first} stands here again; each is to be there once"
            return LineFault("duplicate_custom_id", what, "custom_id", number)
        return None

    def _of_address(self, number: int, value: dict[str, Any]) -> LineFault | None:
        if value["method"] != "POST":
            return LineFault("invalid_method", "'method' should be 'POST'", "method", number)
        if value["url"] != self._endpoint:
            what = f"'url' should be '{self._endpoint}', the endpoint of the batch"
            return LineFault("mismatched_url", what, "url", number)
        return None

    def _of_body(self, number: int, body: object) -> LineFault | None:
        if not isinstance(body, dict):
            what = f"'body' should be an object, not {json_name(body)}"
            return LineFault("invalid_type", what, "body", number)
        if body.get("stream"):
            what = "'body.stream': nobody listens to a batch; leave it out"
            return LineFault("unsupported_value", what, "body.stream", number)
        return None
