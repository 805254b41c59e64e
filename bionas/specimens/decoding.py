"""One photograph of any size and kind -> one uint8 image of a given side.

`decode` takes a file or the bytes of one. What it gives depends on the photograph, the side and the fit alone;
`RECIPE` names how, so that a cache of decoded images knows when it is of another time.
"""

from __future__ import annotations

import io
import os
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bionas.registry import Registry

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
RECIPE = 1
"""Raised when the same photograph would decode to other pixels: older caches are then not used."""

GREY = (128, 128, 128)

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


class Unreadable(NamedTuple):
    """Why a photograph could not be decoded."""

    reason: str


def decode(photograph: str | os.PathLike | bytes, size: int, fit: str = "crop") -> np.ndarray | Unreadable:
    """One photograph as uint8 (size, size, 3): upright by its EXIF, RGB, fitted to a square, resized antialiased.

    Transparent parts become white, 16-bit greys keep their upper 8 bits. Large JPEGs are read at a reduced scale of at
    least twice `size`.

    Args:
        photograph: a path, or the content of a file.
        size: side of the image in pixels.
        fit: a name of `FITS`.

    Raises:
        UnknownName: no such fit.
    """
    square_of = FITS[fit]
    try:
        with Image.open(io.BytesIO(photograph) if isinstance(photograph, bytes) else photograph) as image:
            image.draft("RGB", (2 * size, 2 * size))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        square = square_of(_rgb(image))
        if square.size != (size, size):
            square = square.resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(square)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        return Unreadable(_reason(photograph, error))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel
        values = np.asarray(image, dtype=np.float64)
        scale = 256.0 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image.convert("RGB")


def _reason(photograph: str | os.PathLike | bytes, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if (len(photograph) if isinstance(photograph, bytes) else os.stat(photograph).st_size) == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return str(error)
