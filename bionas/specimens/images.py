"""The image store: photographs at training resolution, decoded once, drawn by index.

`ImageStore` holds uint8 RGB images of one size as (N, S, S, 3), in memory or memory-mapped from a .npy file, so that a
collection larger than memory costs only the pages a batch touches. A subset shares the pixels of the whole.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bionas.errors import SpecimenError


class Images(Protocol):
    """N images: uint8, decoded (`ImageStore`) or decoded when asked for (`StreamedImages`), or what a network made of
    them (`training.maps.StemMaps`)."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> int:
        """Side of an image in pixels; of a map in places."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 hex of which images these are, in which order."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image as it is kept: (height, width, channels)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the values: uint8 for images, float16 for maps that a network made of them."""
        ...

    def subset(self, positions: np.ndarray) -> Images:
        """The images at `positions`, in that order."""
        ...

    def varied(self, generator: torch.Generator) -> Images | None:
        """For one augmented epoch: one of the variants of each image that were made before; None where there are none,
        and images are augmented when they are drawn."""
        ...

    def pixels(self, positions: np.ndarray | list[int], out: np.ndarray | None = None) -> np.ndarray:
        """(n, *shape), in `out` where it is given."""
        ...

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        """(n, channels, height, width), laid out in memory as channels_last."""
        ...

    def readable(self, positions: np.ndarray) -> np.ndarray | None:
        """bool (n,), False for photographs that turned out to be unreadable; None where all of them are readable."""
        ...

    def news(self) -> str:
        """One sentence on photographs that were found unreadable since the last call; "" where there are none."""
        ...


class ImageStore:
    """N uint8 images of S x S pixels.

    Args:
        pixels: (N, S, S, 3) uint8, an array or a memory map.
        fingerprint: identity of `pixels` where it is already known; otherwise the SHA-256 of the pixels, on demand.
        positions: which images of `pixels`, in which order; None for all.

    Raises:
        SpecimenError: `pixels` has another shape or type.
    """

    dtype = torch.uint8

    def __init__(
        self, pixels: np.ndarray, fingerprint: str | None = None, positions: np.ndarray | None = None
    ):
        if (
            pixels.ndim != 4
            or pixels.shape[1] != pixels.shape[2]
            or pixels.shape[3] != 3
            or pixels.dtype != np.uint8
        ):
            raise SpecimenError(
                f"images must be uint8 (N, S, S, 3), not {pixels.dtype} {tuple(pixels.shape)}."
            )
        self._pixels = pixels
        self._whole_fingerprint = fingerprint
        self._positions = positions

    @classmethod
    def open(cls, path: str | os.PathLike, fingerprint: str | None = None) -> ImageStore:
        """The images of a .npy file, memory-mapped.

        Raises:
            SpecimenError: the file is missing, cut short or not a .npy of uint8 images.
        """
        try:
            pixels = np.load(Path(path), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SpecimenError(
                f"{path} is not a readable image cache ({error}). Delete it: it is built again."
            ) from None
        return cls(pixels, fingerprint)

    def __len__(self) -> int:
        return len(self._pixels) if self._positions is None else len(self._positions)

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return self._pixels.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, S, 3)"""
        return self.size, self.size, 3

    def varied(self, generator: torch.Generator) -> None:
        """None: images are augmented when they are drawn."""

    def subset(self, positions: np.ndarray) -> ImageStore:
        """The images at `positions` of this store, in that order; the pixels are shared, not copied."""
        positions = np.asarray(positions, dtype=np.int64)
        return ImageStore(self._pixels, self._whole_fingerprint, self._rows(positions))

    def pixels(self, positions: np.ndarray | list[int], out: np.ndarray | None = None) -> np.ndarray:
        """uint8 (n, S, S, 3), a copy (in `out` where it is given): what `figures.specimen_grid` shows.

        Raises:
            IndexError: a position outside 0..N-1.
        """
        rows = self._rows(np.asarray(positions, dtype=np.int64))
        # Into an array of our own and with the bounds checked above: `take` then copies image by image, unbuffered.
        found = np.empty((len(rows), *self._pixels.shape[1:]), dtype=np.uint8) if out is None else out
        return np.take(self._pixels.view(np.ndarray), rows, axis=0, out=found, mode="clip")

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        """uint8 (n, 3, S, S), laid out in memory as channels_last."""
        return torch.from_numpy(self.pixels(np.asarray(positions))).permute(0, 3, 1, 2)

    def readable(self, positions: np.ndarray) -> np.ndarray | None:
        """None: every image here is one that could be read (`StreamedImages.readable`)."""
        return None

    def news(self) -> str:
        """Nothing: unreadable photographs were reported when the store was built."""
        return ""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex of which images these are, in which order."""
        if self._whole_fingerprint is None:
            digest = hashlib.sha256()
            store = ImageStore(self._pixels)
            for start in range(0, len(self._pixels), 256):
                digest.update(store.pixels(np.arange(start, min(start + 256, len(self._pixels)))).data)
            self._whole_fingerprint = digest.hexdigest()
        whole = self._whole_fingerprint
        if self._positions is None:
            return whole
        digest = hashlib.sha256(whole.encode())
        digest.update(np.ascontiguousarray(self._positions, dtype="<i8").data)
        return digest.hexdigest()

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        """int64 (n,) rows of `_pixels`; bounds are checked, so that a wrong position is no other image."""
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self)):
            raise IndexError(
                f"positions {positions.min()} to {positions.max()} in a store of {len(self)} images"
            )
        return positions if self._positions is None else self._positions[positions]
