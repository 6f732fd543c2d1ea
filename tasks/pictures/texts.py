"""Text inside picture files: read without decoding them, and made ready to be written.

PNG has chunks for it; JPEG and WebP carry it as EXIF ``UserComment``, which is where AUTOMATIC1111's web UI
puts it and looks for it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from tasks.pictures.header import PictureFormat, PictureRefused, jpeg_segments, look
from tasks.pictures.infotext import KEYWORD

MAX_TEXT_BYTES = 1 << 20
"""Longer texts are cut here when read: a few compressed bytes can stand for any number of them."""

_EXIF = b"Exif\x00\x00"
_UNICODE, _ASCII, _NO_CODE = b"UNICODE\x00", b"ASCII\x00\x00\x00", bytes(8)
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_LONG, _UNDEFINED = 4, 7
_APP1 = 0xE1


def user_comment(text: str) -> bytes:
    """An EXIF block that holds ``text`` as ``UserComment`` in big-endian UTF-16 and nothing else.

    Built here because the comment must have the type "undefined" for other readers to take it. Source: CIPA
    DC-008 (Exif 2.32), 4.6.5; hMatoba/Piexif, helper.py, whose writer has the same byte order.
    """
    comment = _UNICODE + text.encode("utf-16-be", "replace")
    first = _directory(_EXIF_IFD, _LONG, 1, at=26)
    second = _directory(_USER_COMMENT, _UNDEFINED, len(comment), at=44)
    return _EXIF + b"MM\x00*\x00\x00\x00\x08" + first + second + comment


def _directory(tag: int, kind: int, count: int, at: int) -> bytes:
    """A TIFF directory of one entry, with no other behind it."""
    return struct.pack(">HHHIII", 1, tag, kind, count, at, 0)


def read_texts(data: bytes) -> dict[str, str]:
    """The texts in a PNG by keyword; of a JPEG or WebP the ``UserComment``, as ``parameters``.

    Damaged texts are left out: a picture is no less a picture for them.

    Raises:
        PictureRefused: ``data`` is no picture of these kinds, or too large; see ``look``.
    """
    kind = look(data).format
    if kind is PictureFormat.PNG:
        return dict(_png_texts(data))
    try:
        exif = _jpeg_exif(data) if kind is PictureFormat.JPEG else _webp_exif(data)
        comment = _comment(exif) if exif else None
    except (struct.error, IndexError, UnicodeDecodeError, PictureRefused):
        return {}
    return {KEYWORD: comment} if comment else {}


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            with suppress(ValueError, zlib.error):
                yield _png_text(kind, data[at + 8 : at + 8 + length])
        at += length + 12


def _png_text(kind: bytes, body: bytes) -> tuple[str, str]:
    """Source: PNG specification, third edition, 11.3.3."""
    keyword, rest = body.split(b"\x00", 1)
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest[:MAX_TEXT_BYTES].decode("latin-1")
    if kind == b"zTXt":
        return name, _inflated(rest[1:]).decode("latin-1")
    is_compressed = rest[:1] == b"\x01"
    _, _, text = rest[2:].split(b"\x00", 2)  # language, translated keyword
    return name, (_inflated(text) if is_compressed else text[:MAX_TEXT_BYTES]).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)


def _jpeg_exif(data: bytes) -> bytes | None:
    for marker, at, length in jpeg_segments(data):
        if marker == _APP1 and data.startswith(_EXIF, at):
            return data[at + len(_EXIF) : at + length]
    return None


def _webp_exif(data: bytes) -> bytes | None:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            return data[at + 8 : at + 8 + length].removeprefix(_EXIF)
        at += 8 + length + length % 2
    return None


def _comment(tiff: bytes) -> str | None:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    pointer = _entry(tiff, order, first, _EXIF_IFD)
    if pointer is None:
        return None
    found = _entry(tiff, order, pointer[1], _USER_COMMENT)
    if found is None:
        return None
    length, at = found
    return _comment_text(tiff[at : at + min(length, MAX_TEXT_BYTES)], order)


def _comment_text(comment: bytes, order: str) -> str:
    code, text = comment[:8], comment[8:]
    if code == _UNICODE:
        # The standard leaves the byte order open. In little-endian files some writers are big-endian all the
        # same; letters of most languages then have their zero byte first.
        is_little = order == "<" and text[1::2].count(0) >= text[::2].count(0)
        return text[: len(text) // 2 * 2].decode("utf-16-le" if is_little else "utf-16-be", "replace")
    if code in (_ASCII, _NO_CODE):
        return text.rstrip(b"\x00").decode("utf-8", "replace")
    return comment.rstrip(b"\x00").decode("utf-8", "replace")


def _entry(tiff: bytes, order: str, at: int, wanted: int) -> tuple[int, int] | None:
    """(count, value or offset) of the entry ``wanted`` in the directory at ``at``."""
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for index in range(count):
        tag, _, length, value = struct.unpack_from(f"{order}HHII", tiff, at + 2 + 12 * index)
        if tag == wanted:
            return length, value
    return None
