from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from models.diffusion.image import Pixels, ResizeMode, decode, encode, fit, from_pixels, to_pixels
from tasks.pictures.header import PictureFormat, PictureRefused
from tasks.pictures.infotext import Infotext, parse
from tasks.pictures.texts import MAX_TEXT_BYTES, read_texts, user_comment
from tests.golden.llm import uniform

FORMATS = list(PictureFormat)
PARAMETERS = Infotext(
    "a red circle — 赤い円 🔴",
    "blurry",
    {"Steps": "4", "Sampler": "LCM", "Seed": "7", "Model": "hearth, demo"},
)


def gradient(height: int = 24, width: int = 40) -> Pixels:
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y // height, 255 * x // width, 0 * x + 90], axis=-1).astype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_the_decoders_values_become_levels_as_axera_rounds_them() -> None:
    values = (uniform(1, (1, 3, 8, 16)) * 1.3).astype(np.float32)
    planes = np.transpose(values, (0, 2, 3, 1)).squeeze(axis=0)
    expected = (np.clip(planes / 2 + 0.5, 0, 1) * 255).round().astype("uint8")
    made = to_pixels(values)
    assert made.shape == (8, 16, 3)
    assert made.flags.c_contiguous
    assert np.array_equal(made, expected)


def test_pixels_come_through_the_encoders_range_unchanged() -> None:
    image = from_pixels(gradient())
    assert image.dtype == np.float32
    assert image.shape == (1, 3, 24, 40)
    assert image.flags.c_contiguous
    assert image.min() >= -1
    assert image.max() <= 1
    assert np.array_equal(to_pixels(image), gradient())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_picture_of_no_numbers_is_an_error_and_not_a_black_picture(wrong: float) -> None:
    values = np.zeros((1, 3, 8, 8), dtype=np.float32)
    values[0, 1, 2, 3] = wrong
    with pytest.raises(ValueError, match="no numbers"):
        to_pixels(values)


def test_png_gives_back_every_pixel() -> None:
    assert np.array_equal(decode(encode(gradient(), PictureFormat.PNG)), gradient())


@pytest.mark.parametrize("kind", [PictureFormat.JPEG, PictureFormat.WEBP])
def test_lossy_formats_give_back_nearly_every_pixel_and_less_for_less_quality(kind: PictureFormat) -> None:
    fine, coarse = (encode(gradient(96, 96), kind, quality=quality) for quality in (95, 10))
    assert len(coarse) < len(fine)
    assert np.abs(decode(fine).astype(int) - gradient(96, 96)).mean() < 2.5


@pytest.mark.parametrize("kind", FORMATS)
def test_parameters_come_back_out_of_every_format(kind: PictureFormat) -> None:
    texts = read_texts(encode(gradient(), kind, text=str(PARAMETERS)))
    assert texts == {"parameters": str(PARAMETERS)}
    assert parse(texts["parameters"]) == PARAMETERS


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_without_parameters_carry_none(kind: PictureFormat) -> None:
    assert read_texts(encode(gradient(), kind)) == {}


def test_pillow_finds_the_parameters_where_the_web_ui_looks_for_them() -> None:
    with Image.open(BytesIO(encode(gradient(), PictureFormat.PNG, text="plain text"))) as image:
        assert image.info["parameters"] == "plain text"
    for kind in (PictureFormat.JPEG, PictureFormat.WEBP):
        with Image.open(BytesIO(encode(gradient(), kind, text="赤い"))) as image:
            comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + "赤い".encode("utf-16-be")


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(FORMATS))
def test_any_text_comes_back_out_of_any_format(text: str, kind: PictureFormat) -> None:
    assert read_texts(encode(gradient(8, 8), kind, text=text)) == {"parameters": text}


def test_a_chunk_of_odd_length_before_the_parameters_is_passed_over() -> None:
    data = encode(gradient(), PictureFormat.WEBP, text="text")
    at = data.index(b"EXIF")
    odd = b"XTRA" + struct.pack("<I", 3) + b"odd\0"
    assert read_texts(data[:at] + odd + data[at:]) == {"parameters": "text"}


def test_texts_of_other_writers_are_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "compressed", zip=True)
    info.add_itxt("Comment", "übersetzt", "de", "Kommentar", zip=True)
    file = BytesIO()
    Image.fromarray(gradient()).save(file, "PNG", pnginfo=info)
    assert read_texts(file.getvalue()) == {"parameters": "compressed", "Comment": "übersetzt"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_comments_of_little_endian_files_are_read_in_either_order(encoding: str) -> None:
    exif = Image.Exif()
    exif.endian = "<"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a red circle".encode(encoding)
    file = BytesIO()
    Image.fromarray(gradient()).save(file, "JPEG", exif=exif)
    assert read_texts(file.getvalue()) == {"parameters": "a red circle"}


def test_a_compressed_text_is_not_blown_up() -> None:
    png = encode(gradient(), PictureFormat.PNG)
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(64 << 20)))
    assert len(read_texts(png[:33] + bomb + png[33:])["parameters"]) == MAX_TEXT_BYTES


def test_damaged_texts_are_left_out() -> None:
    png = encode(gradient(), PictureFormat.PNG, text="good")
    bad = chunk(b"zTXt", b"bad\0\0junk") + chunk(b"tEXt", b"no end") + chunk(b"iTXt", b"short\0")
    assert read_texts(png[:33] + bad + png[33:]) == {"parameters": "good"}
    for length in range(50, len(png)):
        assert set(read_texts(png[:length])) <= {"parameters"}


@given(st.binary(max_size=80))
def test_damaged_exif_is_left_out(junk: bytes) -> None:
    whole = user_comment("text")
    for exif in (whole[:20] + junk, b"Exif\0\0MM\0*" + junk, b"Exif\0\0II*\0" + junk):
        jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        read_texts(jpeg + encode(gradient(8, 8), PictureFormat.JPEG)[2:])


def test_a_text_too_long_for_a_jpeg_is_an_error() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode(gradient(), PictureFormat.JPEG, text="x" * 40_000)
    assert len(read_texts(encode(gradient(), PictureFormat.PNG, text="x" * 40_000))["parameters"]) == 40_000


def test_qualities_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        encode(gradient(), PictureFormat.WEBP, quality=101)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pngs_of_every_kind_become_rgb(mode: str) -> None:
    file = BytesIO()
    Image.new(mode, (6, 4)).save(file, "PNG")
    pixels = decode(file.getvalue())
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8


def test_sixteen_bits_of_grey_keep_their_lightness() -> None:
    file = BytesIO()
    Image.fromarray(np.full((4, 6), 0x8000, dtype=np.uint16)).save(file, "PNG")
    assert set(decode(file.getvalue()).reshape(-1).tolist()) <= {127, 128}


def test_transparency_shows_white() -> None:
    file = BytesIO()
    Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(file, "PNG")
    assert decode(file.getvalue()).min() == 255


def test_photographs_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    Image.fromarray(gradient(24, 40)).save(file, "JPEG", exif=exif)
    assert decode(file.getvalue()).shape == (40, 24, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_pictures_are_refused_and_nothing_else(kind: PictureFormat) -> None:
    data = encode(gradient(64, 64), kind, text="text")
    for length in range(60, len(data) - 20, 37):
        with pytest.raises(PictureRefused):
            decode(data[:length])


def test_nothing_is_decoded_beyond_the_cap() -> None:
    with pytest.raises(PictureRefused, match="megapixels"):
        decode(encode(gradient(), PictureFormat.PNG), max_pixels=100)


def test_a_bomb_of_few_bytes_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    with pytest.raises(PictureRefused, match="megapixels"):
        decode(bomb + chunk(b"IEND", b""))


@pytest.mark.parametrize("mode", ResizeMode)
@pytest.mark.parametrize("size", [(24, 40), (48, 80), (20, 64), (64, 20), (512, 512)])
def test_pictures_come_to_the_size_asked_for(mode: ResizeMode, size: tuple[int, int]) -> None:
    assert fit(gradient(), size, mode).shape == (*size, 3)


def test_cropping_cuts_the_sides_and_filling_repeats_the_edges() -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    assert fit(wide, (8, 8), ResizeMode.CROP).min() == 200
    filled = fit(wide, (24, 24), ResizeMode.FILL)
    assert np.array_equal(filled[8:16], wide)
    assert np.array_equal(filled[0], wide[0])
    assert np.array_equal(filled[23], wide[7])
