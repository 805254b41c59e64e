"""Photographs of any size and kind -> uint8 images of one size, once.

`decode` reads one file; `decoded` reads many in threads (Pillow lets go of the interpreter while it works), streams
them to a .npy under the cache folder and opens that file the next time. The cache is keyed by the names, sizes and
times of the files and by how they were decoded; it appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bionas.errors import BionasError
from bionas.progress import progress
from bionas.files import read_json, replacing, write_json
from bionas.registry import Registry
from bionas.specimens.images import ImageStore

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
RECIPE = 1
"""Raised when the same file would decode to other pixels: older caches are then not used."""

BLOCK = 512
GREY = (128, 128, 128)

FITS: Registry = Registry("fit")


@FITS.register("crop")
def _crop(image: Image.Image) -> Image.Image:
    """The largest square in the middle."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


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
    """Why a file could not be decoded."""

    reason: str


def decode(path: str | os.PathLike, size: int, fit: str = "crop") -> np.ndarray | Unreadable:
    """One photograph as uint8 (size, size, 3): upright by its EXIF, RGB, fitted to a square, resized antialiased.

    Transparent parts become white, 16-bit greys keep their upper 8 bits. Large JPEGs are read at a reduced scale of at
    least twice `size`.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))
            upright = _rgb(ImageOps.exif_transpose(image))
        square = FITS[fit](upright)
        if square.size != (size, size):
            square = square.resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(square)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        return Unreadable(_reason(path, error))


def decoded(
    folder: Path,
    files: Sequence[str],
    size: int,
    fit: str,
    cache_dir: Path,
    workers: int | None = None,
) -> tuple[ImageStore, dict[int, str]]:
    """All photographs `folder / files[i]`, decoded now or taken from the cache.

    Returns the store, one image a file, and position -> reason for those that could not be read (their image is black).

    Raises:
        BionasError: the cache folder cannot be written or the disk is full.
    """  # fmt: skip
    FITS[fit]
    key = _key(folder, files, size, fit)
    stem = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', folder.resolve().name)[:40]}-{size}px-{key[:16]}"
    pixels_file, facts_file = cache_dir / f"{stem}.npy", cache_dir / f"{stem}.json"
    cached = _cached(pixels_file, facts_file, key, len(files), size)
    if cached is not None:
        return cached

    content = hashlib.sha256()
    unreadable: dict[int, str] = {}
    black = np.zeros((size, size, 3), dtype=np.uint8)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), size, size, 3)}
    workers = workers or min(8, os.cpu_count() or 1)
    with (
        replacing(pixels_file) as file,
        ThreadPoolExecutor(workers) as pool,
        progress(total=len(files), desc=f"decoding {folder.name}", unit="image", leave=False, delay=2) as bar,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(files), BLOCK):
            names = files[start : start + BLOCK]
            for position, image in enumerate(pool.map(lambda name: decode(folder / name, size, fit), names), start):
                if isinstance(image, Unreadable):
                    unreadable[position] = image.reason
                    image = black
                content.update(row := np.ascontiguousarray(image))
                file.write(row)
            bar.update(len(names))
    facts = {"key": key, "fingerprint": content.hexdigest(), "unreadable": {str(i): r for i, r in unreadable.items()}}
    write_json(facts_file, facts)
    return ImageStore.open(pixels_file, facts["fingerprint"]), unreadable


def _cached(
    pixels_file: Path, facts_file: Path, key: str, n: int, size: int
) -> tuple[ImageStore, dict[int, str]] | None:
    """The cache where it is whole and of this key, else None."""
    try:
        facts = read_json(facts_file)
        store = ImageStore.open(pixels_file, facts["fingerprint"])
        if facts["key"] == key and len(store) == n and store.size == size:
            return store, {int(position): reason for position, reason in facts["unreadable"].items()}
    except (BionasError, KeyError, TypeError, ValueError, AttributeError):
        pass
    return None


def _key(folder: Path, files: Sequence[str], size: int, fit: str) -> str:
    digest = hashlib.sha256(json.dumps([RECIPE, size, fit]).encode())
    for name in files:
        status = (folder / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel
        values = np.asarray(image, dtype=np.float64)
        scale = 256.0 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image.convert("RGB")


def _reason(path: str | os.PathLike, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return str(error)
