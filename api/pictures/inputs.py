"""Pictures that come with a request: taken out of whatever form they came in, looked at, kept for the worker.

Nothing is decoded here: a picture's header and framing say enough to refuse what no worker should see.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import WithJsonSchema

from api.errors import Refusal
from api.openai.faults import invalid, wrong_type
from config.groups import LimitSettings
from tasks.artifacts import ArtifactStore
from tasks.pictures.header import Header, PictureRefused, check_end, look

_DATA_URI = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{0,100}){0,4};base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*(?:https?|ftp|file):", re.IGNORECASE)
_PIECE = 1 << 18
"""Characters; four of them are three bytes."""


@dataclass(frozen=True, slots=True)
class InputPicture:
    """A picture as it came, and what its header says. ``sha256`` is its name in the store."""

    data: bytes
    header: Header
    sha256: str


PictureIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}],
            "title": "A PNG, JPEG or WebP in base64, or as a data: URI; addresses are not fetched",
        }
    ),
]
"""For the schema of a field; what stands there is looked at by ``Inputs``."""


class Inputs:
    """The pictures of one request: each is looked at once, however many jobs start from it."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._taken: dict[str | bytes, InputPicture] = {}

    async def take(self, value: object, where: str) -> InputPicture:
        """See ``from_value``."""
        if isinstance(value, str | bytes) and value in self._taken:
            return self._taken[value]
        picture = await from_value(value, where, self._limits)
        if isinstance(value, str | bytes):
            self._taken[value] = picture
        return picture

    @property
    def all(self) -> list[InputPicture]:
        """What is to be kept before the jobs are submitted."""
        return list(self._taken.values())


async def from_value(value: object, where: str, limits: LimitSettings) -> InputPicture:
    """The picture that ``value`` holds: bytes of a file, base64, or a ``data:`` address with base64.

    ``where`` is the name of the field, for the refusal.

    Raises:
        Refusal: no text; an address that would have to be fetched; broken base64; no picture, one cut short,
            or one beyond ``limits``.
    """
    if not isinstance(value, str | bytes):
        raise wrong_type(where, "a picture in base64, or a data: URI", value)
    # 20 MB of base64 and their hash take a tenth of a second of a small computer.
    return await asyncio.to_thread(_taken, value, where, limits)


async def keep(pictures: Iterable[InputPicture], files: ArtifactStore) -> None:
    """Put the pictures where the worker finds them; to be done before their job is submitted.

    Raises:
        DiskFull: no room is left.
    """
    unique = {picture.sha256: picture.data for picture in pictures}
    for data in unique.values():
        await asyncio.to_thread(files.spool, data)


def _taken(value: str | bytes, where: str, limits: LimitSettings) -> InputPicture:
    data = value if isinstance(value, bytes) else _decoded(value, where, limits)
    if not data:
        raise invalid(where, "a picture: it is empty")
    if len(data) > limits.picture_bytes:
        raise _too_large(where, limits)
    try:
        header = look(data, limits.picture_pixels)
        check_end(data, header)
    except PictureRefused as refused:
        raise Refusal("invalid_image", f"'{where}': {refused}", where) from None
    return InputPicture(data, header, hashlib.sha256(data).hexdigest())


def _decoded(text: str, where: str, limits: LimitSettings) -> bytes:
    head = _DATA_URI.match(text)
    if head is not None:
        text = text[head.end() :]
    elif text[:5].lower() == "data:":
        raise invalid(where, "base64 behind 'data:image/png;base64,'")
    elif _ADDRESS.match(text):
        raise Refusal(
            "unsupported_value",
            f"'{where}': addresses are not fetched; send the picture itself, in base64 or as a data: URI",
            where,
        )
    if len(text) > limits.picture_bytes * 2:  # a third more than the bytes, and line feeds
        raise _too_large(where, limits)
    try:
        return _from_base64(text.encode("ascii"))
    except ValueError:  # binascii.Error is one, and so is UnicodeEncodeError
        raise Refusal("invalid_image", f"'{where}' is not valid base64", where) from None


def _from_base64(text: bytes) -> bytes:
    """In pieces: Python decodes each without a pause, and 27 MB at once would hold up the loop for 0.2 s.

    Raises:
        ValueError: it is no base64, or not padded.
    """
    if any(blank in text for blank in (b"\n", b"\r", b" ", b"\t")):
        text = text.translate(None, b" \t\r\n")
    if b"=" in text[:-2]:
        raise ValueError("padding stands at the end only")
    return b"".join(
        binascii.a2b_base64(text[at : at + _PIECE], strict_mode=True) for at in range(0, len(text), _PIECE)
    )


def _too_large(where: str, limits: LimitSettings) -> Refusal:
    most = limits.picture_bytes
    return Refusal("image_too_large", f"'{where}': the picture's file exceeds {most} bytes", where)
