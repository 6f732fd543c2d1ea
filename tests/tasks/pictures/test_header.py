from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.pictures.header import Header, PictureFormat, PictureRefused, look


def picture(kind: str, size: tuple[int, int] = (37, 21), mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (picture("PNG"), PictureFormat.PNG),
        (picture("PNG", mode="I;16"), PictureFormat.PNG),
        (picture("JPEG"), PictureFormat.JPEG),
        (picture("JPEG", progressive=True), PictureFormat.JPEG),
        (picture("JPEG", mode="CMYK"), PictureFormat.JPEG),
        (picture("JPEG", exif=b"Exif\0\0" + bytes(60_000)), PictureFormat.JPEG),
        (b"\xff\xd8\xff\xc4\x00\x09\x08\x00\x01\x00\x01\x03\x01" + picture("JPEG")[2:], PictureFormat.JPEG),
        (picture("WEBP"), PictureFormat.WEBP),
        (picture("WEBP", lossless=True), PictureFormat.WEBP),
        (picture("WEBP", mode="RGBA"), PictureFormat.WEBP),
        (picture("WEBP", exif=b"Exif\0\0MM"), PictureFormat.WEBP),
    ],
)
def test_type_and_size_are_told_without_decoding(data: bytes, kind: PictureFormat) -> None:
    assert look(data) == Header(kind, 37, 21)


def test_formats_know_their_media_type() -> None:
    assert [each.media_type for each in PictureFormat] == ["image/png", "image/jpeg", "image/webp"]


@pytest.mark.parametrize(
    "data",
    [b"", b"hello, this is a text file", picture("GIF"), picture("BMP"), picture("TIFF"), b"<svg/>", b"RIFF"],
)
def test_what_is_no_picture_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="PNG, JPEG and WebP are"):
        look(data)


def test_a_picture_of_100_megapixels_is_refused_from_its_header() -> None:
    data = bytearray(picture("PNG"))
    struct.pack_into(">II", data, 16, 10_000, 10_000)
    with pytest.raises(PictureRefused, match=r"10000 × 10000: at most 16\.8 megapixels"):
        look(bytes(data))


def test_the_cap_is_inclusive() -> None:
    assert look(picture("PNG"), max_pixels=37 * 21)
    with pytest.raises(PictureRefused, match="megapixels"):
        look(picture("PNG"), max_pixels=37 * 21 - 1)


def test_a_picture_without_pixels_is_refused() -> None:
    data = bytearray(picture("PNG"))
    struct.pack_into(">I", data, 16, 0)
    with pytest.raises(PictureRefused, match="no pixels"):
        look(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_headers_that_are_cut_short_are_refused(kind: str) -> None:
    data = picture(kind)
    for length in range(24):
        with pytest.raises(PictureRefused):
            look(data[:length])


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0\x00\x00" * 3, b"\xff\xd8\xff\xda" + bytes(9)])
def test_jpegs_that_never_tell_their_size_are_refused(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="JPEG is damaged"):
        look(data)


@given(
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8X"]
    ),
    st.binary(),
)
def test_no_bytes_at_all_make_a_look_fail_otherwise(start: bytes, rest: bytes) -> None:
    try:
        header = look(start + rest)
    except PictureRefused:
        return
    assert header.width_px > 0
    assert header.height_px > 0
