"""Pictures that come with a request: taken in every form, refused by name, never decoded."""

from __future__ import annotations

import base64
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refusal
from api.pictures import inputs
from config.groups import LimitSettings
from tasks.artifacts import ArtifactStore
from tasks.pictures.header import PictureFormat
from tests.api.painting import a_picture

LIMITS = LimitSettings(picture_bytes=50_000)
PICTURE = a_picture()
BASE64 = base64.b64encode(PICTURE).decode()


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that says what it likes about its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


BOMB = png(10_000, 10_000, zlib.compress(bytes(1_000_000), 9))
"""A hundred megapixels in a kilobyte."""


async def refusal(value: object) -> tuple[str, str | None, str]:
    with pytest.raises(Refusal) as refused:
        await inputs.from_value(value, "image", LIMITS)
    problem = refused.value.problem
    return problem.code, problem.param, problem.message


@pytest.mark.parametrize(
    "value",
    [
        PICTURE,
        BASE64,
        f"data:image/png;base64,{BASE64}",
        f"DATA:;BASE64,{BASE64}",
        f"data:image/png;charset=utf-8;base64,{BASE64}",
        "\r\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)) + "\n",
    ],
)
async def test_a_picture_is_taken_in_whatever_form_it_comes(value: str | bytes) -> None:
    taken = await inputs.from_value(value, "image", LIMITS)
    assert taken.data == PICTURE
    assert taken.sha256 == sha256(PICTURE).hexdigest()
    assert (taken.header.format, taken.header.width_px) == (PictureFormat.PNG, 64)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_whole_files_of_each_kind_pass_and_torn_ones_do_not(kind: str) -> None:
    data = a_picture(kind, (200, 100), "teal")
    assert (await inputs.from_value(data, "image", LIMITS)).header.width_px == 200
    for kept in (len(data) - 3, len(data) // 2, 20, 1):
        code, param, message = await refusal(data[:kept])
        assert (code, param) == ("invalid_image", "image")
        assert message.startswith("'image': ")


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("http://example.org/cat.png", "unsupported_value", "not fetched"),
        (" HTTPS://example.org/cat.png", "unsupported_value", "not fetched"),
        ("file:///etc/passwd", "unsupported_value", "not fetched"),
        ("data:image/png,rawbytes", "invalid_value", "base64 behind"),
        ("data:image/png;base64,%%%", "invalid_image", "not valid base64"),
        (BASE64[:-1], "invalid_image", "not valid base64"),
        ("pingüino", "invalid_image", "not valid base64"),
        ("", "invalid_value", "empty"),
        (b"", "invalid_value", "empty"),
        (b"just text in a file called cat.png", "invalid_image", "PNG, JPEG and WebP"),
        (b"GIF89a" + bytes(50), "invalid_image", "PNG, JPEG and WebP"),
        (BOMB, "invalid_image", "10000 × 10000"),
        (png(0, 5), "invalid_image", "no pixels"),
        (bytes(50_001), "image_too_large", "50000 bytes"),
        ("A" * 100_001, "image_too_large", "50000 bytes"),
        (7, "invalid_type", "not a number"),
        (None, "invalid_type", "not null"),
        ([BASE64], "invalid_type", "not a list"),
    ],
    ids=repr,
)
async def test_what_is_no_picture_for_us_is_refused_by_name(value: object, code: str, words: str) -> None:
    told, param, message = await refusal(value)
    assert (told, param) == (code, "image")
    assert words in message
    assert "AAAA" not in message


@given(data=st.binary(max_size=100), cuts=st.lists(st.integers(0, 140), max_size=4))
def test_base64_is_read_as_the_standard_library_does(data: bytes, cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_PIECE", 8)
        text = base64.b64encode(data)
        for cut in cuts:
            text = text[:cut] + b"\r\n" + text[cut:]
        assert inputs._from_base64(text) == data


@given(text=st.text(alphabet="AQgw+/=-_ \n", max_size=24).map(str.encode))
def test_what_is_no_base64_is_none_in_pieces_either(text: bytes) -> None:
    plain = text.translate(None, b" \n")
    try:
        expected: bytes | None = base64.b64decode(plain, validate=True)
    except ValueError:
        expected = None
    if plain.endswith(b"=") and len(plain.rstrip(b"=")) % 4 == 0:
        expected = None  # padding that pads nothing: Python 3.11 lets it pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_PIECE", 4)
        try:
            found: bytes | None = inputs._from_base64(text)
        except ValueError:
            found = None
    assert found == expected


@given(data=st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"\x89PNG\r\n\x1a\n" + rest))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    try:
        inputs._taken(data, "image", LIMITS)
        param: str | None = "image"
    except Refusal as refused:
        param = refused.problem.param
    assert param == "image"


async def test_kept_pictures_lie_where_the_worker_looks(tmp_path: Path) -> None:
    files = ArtifactStore(tmp_path)
    one = await inputs.from_value(PICTURE, "image", LIMITS)
    other = await inputs.from_value(a_picture(colour="blue"), "mask", LIMITS)
    await inputs.keep([one, other, one], files)
    assert files.input(one.sha256).read_bytes() == PICTURE
    assert len(list((tmp_path / "inputs").iterdir())) == 2
