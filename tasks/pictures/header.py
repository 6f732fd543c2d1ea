"""A look at a picture file's first bytes: what it is and how large, before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_PIXELS = 4096 * 4096
"""More is never decoded: 16.8 megapixels are 50 MB of RGB."""

_MOST_CHUNKS = 100_000
"""Writers of PNG files use some thousands for the largest pictures."""
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The SOF markers; the three others of that range are tables. Source: ITU-T T.81, table B.1."""
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, RST0 to RST7, SOI."""


class PictureFormat(StrEnum):
    """The formats that are taken and given; values are what clients call them."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


class PictureRefused(ValueError):
    """A picture is not taken. The message is fit for the one who sent it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says about itself."""

    format: PictureFormat
    width_px: int
    height_px: int


def look(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """What ``data`` is, judged by its bytes and by no name or label.

    Raises:
        PictureRefused: no PNG, JPEG or WebP; cut short before its size; without pixels; or with more than
            ``max_pixels``.
    """
    header = _header(data)
    pixels = header.width_px * header.height_px
    if pixels == 0:
        raise PictureRefused("the picture has no pixels")
    if pixels > max_pixels:
        raise PictureRefused(
            f"the picture is {header.width_px} × {header.height_px}: at most {max_pixels / 1e6:.1f} "
            "megapixels are taken"
        )
    return header


def check_end(data: bytes, header: Header) -> None:
    """Follow the file's own framing to its end, so that one that was cut short is known before it is decoded.

    Raises:
        PictureRefused: the file ends before the picture does.
    """
    ends = {PictureFormat.PNG: _png_ends, PictureFormat.JPEG: _jpeg_ends, PictureFormat.WEBP: _webp_ends}
    try:
        is_whole = ends[header.format](data)
    except (struct.error, IndexError):
        is_whole = False
    if not is_whole:
        raise PictureRefused("the picture is cut short: the file ends before it does")


def _png_ends(data: bytes) -> bool:
    """Whether the chunks lead to an IEND. Source: PNG specification, third edition, 5.3."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += length + 12
        if kind == b"IEND":
            return bool(at <= len(data))
    raise PictureRefused(f"the PNG is in more than {_MOST_CHUNKS} pieces")


def _jpeg_ends(data: bytes) -> bool:
    """Whether there is an end mark behind the frame; thumbnails, which have their own, stand before it."""
    for marker, at, length in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            return data.find(b"\xff\xd9", at + length) >= 0
    return False


def _webp_ends(data: bytes) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)


def _header(data: bytes) -> Header:
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        raise PictureRefused("the picture is cut short") from None
    raise PictureRefused("this is no picture that is understood: PNG, JPEG and WebP are")


def _png(data: bytes) -> Header:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise PictureRefused("the PNG is damaged: it does not begin with its header")
    return Header(PictureFormat.PNG, width, height)


def _jpeg(data: bytes) -> Header:
    for marker, at, _ in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 1)
            return Header(PictureFormat.JPEG, width, height)
    raise PictureRefused("the JPEG is damaged: it never says how large it is")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, offset of the body, bytes of the body) up to the picture's own data.

    Raises struct.error or IndexError where the file ends early.
    """
    at = 2
    while True:
        while data[at] != 0xFF:  # some writers leave filling between segments
            at += 1
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        at += 2
        if marker in (0xD9, 0xDA):
            return
        if marker in _JPEG_ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise PictureRefused("the JPEG is damaged: a segment is shorter than its own length field")
        yield marker, at + 2, length - 2
        at += length


def _webp(data: bytes) -> Header:
    """Source: developers.google.com/speed/webp/docs/riff_container; RFC 6386 §9.1 for VP8."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(_exactly(data, 24, 3), "little") + 1
        height = int.from_bytes(_exactly(data, 27, 3), "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        start, wide, high = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise PictureRefused("the WebP is damaged: its first frame does not begin as one")
        width, height = wide & 0x3FFF, high & 0x3FFF
    else:
        raise PictureRefused("the WebP is damaged or of an unknown kind")
    return Header(PictureFormat.WEBP, width, height)


def _exactly(data: bytes, at: int, count: int) -> bytes:
    part = data[at : at + count]
    if len(part) < count:
        raise PictureRefused("the picture is cut short")
    return part
