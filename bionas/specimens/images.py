"""The image store: photographs at training resolution, decoded once, drawn by index.

`ImageStore` holds uint8 RGB images of one size as (N, S, S, 3), in memory or memory-mapped from a .npy file, so that a
collection larger than memory costs only the pages a batch touches. A subset shares the pixels of the whole.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bionas.errors import SpecimenError


class ImageStore:
    """N uint8 images of S x S pixels.

    Args:
        pixels: (N, S, S, 3) uint8, an array or a memory map.
        fingerprint: identity of `pixels` where it is already known; otherwise the SHA-256 of the pixels, on demand.
        positions: which images of `pixels`, in which order; None for all.

    Raises:
        SpecimenError: `pixels` has another shape or type.
    """

    def __init__(self, pixels: np.ndarray, fingerprint: str | None = None, positions: np.ndarray | None = None):
        if pixels.ndim != 4 or pixels.shape[1] != pixels.shape[2] or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise SpecimenError(f"images must be uint8 (N, S, S, 3), not {pixels.dtype} {tuple(pixels.shape)}.")
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

    def subset(self, positions: np.ndarray) -> ImageStore:
        """The images at `positions` of this store, in that order; the pixels are shared, not copied."""
        positions = np.asarray(positions, dtype=np.int64)
        own = positions if self._positions is None else self._positions[positions]
        return ImageStore(self._pixels, self._whole_fingerprint, own)

    def pixels(self, positions: np.ndarray | list[int]) -> np.ndarray:
        """uint8 (n, S, S, 3), a copy: what `figures.specimen_grid` shows."""
        positions = np.asarray(positions, dtype=np.int64)
        return np.asarray(self._pixels[positions if self._positions is None else self._positions[positions]])

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        """uint8 (n, 3, S, S), laid out in memory as channels_last."""
        return torch.from_numpy(self.pixels(np.asarray(positions))).permute(0, 3, 1, 2)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex of which images these are, in which order."""
        whole = self._whole_fingerprint or hashlib.sha256(np.ascontiguousarray(self._pixels)).hexdigest()
        self._whole_fingerprint = whole
        if self._positions is None:
            return whole
        digest = hashlib.sha256(whole.encode())
        digest.update(np.ascontiguousarray(self._positions, dtype="<i8"))
        return digest.hexdigest()
