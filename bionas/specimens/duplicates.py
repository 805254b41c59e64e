"""Which photographs show the same pixels: one hash per decoded photograph, and the groups of equal ones.

A photograph that is in a collection twice must be on one side of a split; under two labels, one of them is wrong.
"""

from __future__ import annotations

import hashlib

import numpy as np

from bionas.specimens.images import Images

BLOCK = 256  # images that are read at once
DIGEST_BYTES = 8


def pixel_hashes(images: Images) -> np.ndarray:
    """uint64 (N,): equal for two photographs exactly where their decoded pixels are equal.

    Two different ones agree by chance with a probability of N^2 / 2^65: 7e-7 for five million photographs. All images
    are read; of a streamed store that means decoding each once.
    """
    hashes = np.empty(len(images), dtype=np.uint64)
    for start in range(0, len(images), BLOCK):
        positions = np.arange(start, min(start + BLOCK, len(images)))
        for position, pixels in zip(positions, images.pixels(positions), strict=True):
            digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST_BYTES).digest()
            hashes[position] = int.from_bytes(digest, "little")
    return hashes


def equal_groups(hashes: np.ndarray) -> list[np.ndarray]:
    """Positions (int64, ascending) of each group of two or more equal hashes, in the order of their first member."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(hashes) else np.zeros(0, int)
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    return sorted(groups, key=lambda group: group[0])


def contradicting(groups: list[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """Those groups whose members do not all have one label."""
    return [group for group in groups if len(np.unique(labels[group])) > 1]
