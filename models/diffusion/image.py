"""Pixels to files and files to pixels: what the VAE gives and wants, and what people send and get."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from tasks.pictures.header import MAX_PIXELS, PictureFormat, PictureRefused, look
from tasks.pictures.infotext import KEYWORD
from tasks.pictures.texts import user_comment

DEFAULT_QUALITY = 90
"""Of JPEG and WebP, from 0 to 100."""

_PNG_LEVEL = 4
"""Of zlib. A drawn picture of 512 × 512 takes 25 ms and 411 kB at level 1, 36 ms and 377 kB at 4, 91 ms and
372 kB at 6 (Pillow 13.0, one core of a server, November 2026)."""
_BACKGROUND = "white"
"""What shows through transparent pixels, as in AUTOMATIC1111's web UI."""

Pixels = NDArray[np.uint8]


class ResizeMode(IntEnum):
    """How a picture comes to another shape; the values are those of AUTOMATIC1111's ``resize_mode``."""

    STRETCH = 0
    CROP = 1
    """Scaled until it covers everything, what juts out cut away evenly."""
    FILL = 2
    """Scaled until it fits, the rest filled with the colours of its edges."""


def to_pixels(image: NDArray[np.float32]) -> Pixels:
    """uint8[height, width, 3] from the VAE decoder's float32[1, 3, height, width], about [−1, 1].

    ``image`` is worked on in place and of no use afterwards.

    Raises:
        ValueError: the numbers are not numbers, so there is no picture in them.
    """
    if not np.isfinite(image).all():
        raise ValueError("the decoder gave values that are no numbers: the model or the card is at fault")
    # In place, and plane by plane: the card waits for this. An eighth of the time of the plain formula.
    planes = image[0, :3]
    planes /= 2
    planes += 0.5
    np.clip(planes, 0, 1, out=planes)
    planes *= 255
    np.rint(planes, out=planes)
    pixels = np.empty((*planes.shape[1:], 3), np.uint8)
    for channel, plane in enumerate(planes):
        pixels[..., channel] = plane
    return pixels


def from_pixels(pixels: Pixels) -> NDArray[np.float32]:
    """What the VAE encoder wants: float32[1, 3, height, width] in [−1, 1], contiguous."""
    planes = np.moveaxis(pixels, -1, 0)[None].astype(np.float32)
    return np.ascontiguousarray(planes / np.float32(127.5) - np.float32(1))


def encode(
    pixels: Pixels, kind: PictureFormat, *, text: str | None = None, quality: int = DEFAULT_QUALITY
) -> bytes:
    """``pixels`` as a file, carrying ``text`` where AUTOMATIC1111's web UI looks for its parameters.

    ``quality`` (0 to 100) is for JPEG and WebP; PNG loses nothing.

    Raises:
        ValueError: ``text`` has more than a JPEG can carry (about 32,000 characters), or ``quality`` is off.
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"quality must be from 0 to 100, not {quality}")
    image, file = Image.fromarray(pixels), BytesIO()
    if kind is PictureFormat.PNG:
        image.save(file, "PNG", pnginfo=_png_text(text), compress_level=_PNG_LEVEL)
    else:
        exif = {"exif": user_comment(text)} if text else {}
        image.save(file, kind.value, quality=quality, **exif)
    return file.getvalue()


def _png_text(text: str | None) -> PngInfo | None:
    if not text:
        return None
    info = PngInfo()
    info.add_text(KEYWORD, text)  # tEXt for Latin-1, iTXt for everything else
    return info


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """uint8[height, width, 3] from a PNG, JPEG or WebP: upright, on white, the first frame of several.

    Nothing is decoded before the header was found to be acceptable.

    Raises:
        PictureRefused: as ``look``; or the file is damaged.
    """
    return _decoded(data, max_pixels, _upright_rgb)


def decode_transparency(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """How transparent each pixel of a picture is, as ``decode`` gives brightness: 255 is wholly so.

    Raises PictureRefused as ``decode``.
    """
    return _decoded(data, max_pixels, _upright_transparency)


def _decoded(data: bytes, max_pixels: int, take: Callable[[Image.Image], Pixels]) -> Pixels:
    header = look(data, max_pixels)
    try:
        with Image.open(BytesIO(data), formats=[header.format.value.upper()]) as image:
            if image.size != (header.width_px, header.height_px):
                raise PictureRefused("the picture says two different things about its size")
            return np.ascontiguousarray(take(image))
    except PictureRefused:
        raise
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # damaged files raise anything: OSError, SyntaxError, struct.error, zlib.error …
        raise PictureRefused(f"the {header.format.value.upper()} is damaged or cut short") from error


def _upright_rgb(image: Image.Image) -> Pixels:
    image.load()
    if image.mode.startswith(("I", "F")):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def _upright_transparency(image: Image.Image) -> Pixels:
    image.load()
    image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return np.zeros((image.height, image.width, 3), np.uint8)
    transparency = 255 - np.asarray(image.convert("RGBA"))[..., 3:]
    return np.repeat(transparency, 3, axis=2)


def fit(pixels: Pixels, size: tuple[int, int], mode: ResizeMode) -> Pixels:
    """``pixels`` at ``size``, which is (height, width)."""
    height, width = size
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels)
    if mode is ResizeMode.STRETCH:
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    if mode is ResizeMode.CROP:
        return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))
    small = np.asarray(ImageOps.contain(image, (width, height), Image.Resampling.LANCZOS))
    down, right = height - small.shape[0], width - small.shape[1]
    margins = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return np.pad(small, margins, mode="edge")
