"""One photograph of any size and kind -> one uint8 image of a given side.

`decode` takes a file or the bytes of one. What it gives depends on the photograph, the side, the fit and the decoder
alone; `RECIPE` is the version of that, by which a cache of decoded images is found again.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2.functional import resize

from bionas.registry import Registry

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
RECIPE = 2
"""Raised when the same photograph would decode to other pixels: older caches are then not used."""

GREY = (128, 128, 128)

BITS_PER_SAMPLE, MAX_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE = 258, 281, 341  # tags of TIFF
FLOAT_TOLERANCE = 1e-3  # by how much a fraction may exceed its largest value, as rounding does

FITS: Registry = Registry("fit")


@FITS.register("crop")
def _crop(image: Image.Image) -> Image.Image:
    """The largest square in the middle."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image if width == height else image.crop((left, top, left + side, top + side))


@FITS.register("pad")
def _pad(image: Image.Image) -> Image.Image:
    """The whole photograph on a grey square."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@FITS.register("stretch")
def _stretch(image: Image.Image) -> Image.Image:
    """The whole photograph, its proportions changed by the resize."""
    return image


DECODERS: Registry[Callable[[Image.Image, int], np.ndarray]] = Registry("decoder")


@DECODERS.register("exact")
def _lanczos(square: Image.Image, size: int) -> np.ndarray:
    """Pillow's Lanczos resize: the pixels that a cache of decoded images holds."""
    if square.size != (size, size):
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)


@DECODERS.register("fast")
def _bilinear(square: Image.Image, size: int) -> np.ndarray:
    """Torch's antialiased bilinear resize, as torchvision's `Resize`: about a third of the time, slightly softer pixels."""
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
    return resize(pixels, [size, size], antialias=True)[0].permute(1, 2, 0).numpy()


class Unreadable(NamedTuple):
    """Why a photograph could not be decoded."""

    reason: str


def decode(
    photograph: str | os.PathLike | bytes, size: int, fit: str = "crop", decoder: str = "exact"
) -> np.ndarray | Unreadable:
    """One photograph as uint8 (size, size, 3): upright by its EXIF, RGB, fitted to a square, resized antialiased.

    Transparent parts become white. More than 8 bits per value are scaled by the type of the image and its tags, never by
    the values of one photograph (`_white`). Large JPEGs are read at a reduced scale of at least twice `size`.

    Args:
        photograph: a path, or the content of a file.
        size: side of the image in pixels.
        fit: a name of `FITS`.
        decoder: a name of `DECODERS`.

    Raises:
        UnknownName: no such fit, no such decoder.
    """
    square_of, resized = FITS[fit], DECODERS[decoder]
    try:
        with Image.open(io.BytesIO(photograph) if isinstance(photograph, bytes) else photograph) as image:
            image.draft("RGB", (2 * size, 2 * size))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        return resized(square_of(_rgb(image)), size)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        return Unreadable(_reason(photograph, error))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits per value
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values * (256 / _white(image, values))).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image.convert("RGB")


def _white(image: Image.Image, values: np.ndarray) -> float:
    """The value that full intensity has, one more than the largest: by tag (MaxSampleValue), else by type.

    Whole numbers: 65,536 for 16 bits, 2^32 for 32 bits. Fractions: 0 to 1, and nothing else can be told without a tag.

    Raises:
        ValueError: fractions beyond 0 to 1 without the tag.
    """
    tags = getattr(image, "tag_v2", {})
    largest = next((tags[tag] for tag in (S_MAX_SAMPLE_VALUE, MAX_SAMPLE_VALUE) if tag in tags), None)
    largest = largest[0] if isinstance(largest, tuple) else largest
    if image.mode.startswith("F"):
        largest = 1.0 if largest is None else float(largest)
        if np.nanmax(values, initial=0) > largest * (1 + FLOAT_TOLERANCE):
            raise ValueError(
                f"its values are fractions up to {np.nanmax(values):g}, and 0 to {largest:g} is expected: save it with 8 or "
                "16 bits per value, or with the tag SMaxSampleValue"
            )
        return 256 / 255 * largest
    if largest is not None and largest > 0:
        return float(largest) + 1
    bits = tags.get(BITS_PER_SAMPLE, (16,))
    return 2.0 ** max(16, *(bits if isinstance(bits, tuple) else (bits,)), 0)


def _reason(photograph: str | os.PathLike | bytes, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if (len(photograph) if isinstance(photograph, bytes) else os.stat(photograph).st_size) == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        assert Image.MAX_IMAGE_PIXELS is not None  # without a limit there is no such error
        pixels = int(next(iter(re.findall(r"\d+", str(error))), 0))
        return (
            f"it has {pixels / 1e6:.0f} million pixels, and more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million are not "
            "read: save a smaller copy of it"
        )
    return str(error)
