"""Specimens as a table of numbers, for systems that see no images (TPOT) and for the metadata of those that do.

The features of an image are fixed, not learnt: oriented gradients (Dalal & Triggs 2005, in their simplest form) and colours
on a grid. They need no weights, and so no download.
"""

from __future__ import annotations

import numpy as np

from bionas.specimens.collection import SpecimenSet
from bionas.specimens.metadata import MetadataEncoding

GRID = 4
"""Cells per side; each is described separately."""
ORIENTATIONS = 8
"""Bins of the direction of a gradient, over half a turn."""
CHUNK = 512
"""Images described at a time."""
LARGEST_ONE_HOT = 64
"""Categories of a field, at the most, that become a column each; a longer vocabulary stays one column of codes."""


def image_features(specimens: SpecimenSet) -> np.ndarray:
    """(N, 4 x 4 x 14) float32: of each cell the mean and deviation of each channel, and its histogram of oriented gradients."""
    chunks = [
        _described(specimens.require_images().pixels(np.arange(start, min(start + CHUNK, len(specimens)))))
        for start in range(0, len(specimens), CHUNK)
    ]
    return np.concatenate(chunks)


def _described(pixels: np.ndarray) -> np.ndarray:
    n, side = len(pixels), pixels.shape[1] // GRID * GRID
    image = pixels[:, :side, :side].astype(np.float32) / 255

    def cells(values: np.ndarray) -> np.ndarray:
        """(n, side, side, C) -> (n, 16, pixels of a cell, C)."""
        step = side // GRID
        parts = values.reshape(n, GRID, step, GRID, step, -1).transpose(0, 1, 3, 2, 4, 5)
        return parts.reshape(n, GRID * GRID, step * step, -1)

    colours = cells(image)
    down, right = np.gradient(image.mean(axis=3), axis=(1, 2))
    strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    direction = np.minimum((angle / np.pi * ORIENTATIONS).astype(int), ORIENTATIONS - 1)
    one_hot = np.eye(ORIENTATIONS, dtype=np.float32)[direction] * strength[..., None]
    histogram = cells(one_hot).sum(axis=2)
    histogram /= np.linalg.norm(histogram, axis=2, keepdims=True) + 1e-6
    return np.concatenate([colours.mean(axis=2), colours.std(axis=2), histogram], axis=2).reshape(n, -1)


def metadata_table(specimens: SpecimenSet, encoding: MetadataEncoding) -> np.ndarray:
    """(N, M) float32: one column per category (index 0, unknown, among them), or its code where there are many; numbers, 0
    where missing, with a column that flags missing values."""
    metadata = encoding.transform(specimens)
    codes, numbers = metadata.categorical.numpy(), metadata.numeric.numpy()
    columns = [
        np.eye(size, dtype=np.float32)[codes[:, field]]
        if size <= LARGEST_ONE_HOT
        else codes[:, field, None].astype(np.float32)
        for field, size in enumerate(encoding.vocabulary_sizes)
    ]
    missing = np.isnan(numbers)
    empty = np.zeros((len(specimens), 0), dtype=np.float32)
    return np.concatenate(
        [empty, *columns, np.where(missing, 0, numbers), missing.astype(np.float32)], axis=1
    )
