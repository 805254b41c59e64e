"""Photographs that a collection holds twice: what splits keep on one side, and the note on contradicting labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bionas.specimens.duplicates import contradicting, equal_groups, pixel_hashes
from bionas.specimens.images import ImageStore
from bionas.specimens.notes import some

LARGEST = 4 << 30
"""Bytes of decoded pixels up to which a collection is compared; beyond that reading all of them would take minutes."""

NAMES = ("file", "processid", "sampleid")
"""Columns by which a note names a photograph, the first that is there."""


def identical_images(images: object) -> np.ndarray | None:
    """int64 (N,): equal for images of equal pixels, -1 for images that are there once; None where nothing was compared.

    Compared are decoded stores (`ImageStore`) up to `LARGEST`, also the one that maps were made from. Images of a single
    colour count as different: an empty frame is no evidence of a copy.
    """
    images = getattr(images, "photographs_of_maps", images)
    if not isinstance(images, ImageStore) or len(images) * images.size**2 * 3 > LARGEST:
        return None
    codes = np.full(len(images), -1, dtype=np.int64)
    number = 0
    for group in equal_groups(pixel_hashes(images)):
        image = images.pixels(group[:1])[0]
        if (image != image[0, 0]).any():
            codes[group] = number
            number += 1
    return codes


def copies_note(copies: np.ndarray | None, records: pd.DataFrame, label_names: np.ndarray) -> tuple[str, ...]:
    """A note on identical photographs and on those of different labels, or none."""
    if copies is None or (copies < 0).all():
        return ()
    again = np.flatnonzero(copies >= 0)
    again = again[np.argsort(copies[again], kind="stable")]
    groups = np.split(again, np.flatnonzero(np.diff(copies[again])) + 1)
    note = (
        f"{len(again):,} photographs have the same pixels as another one ({len(groups):,} different pictures): random "
        "splits keep them on one side."
    )
    column = next((name for name in NAMES if name in records), None)
    named = []
    for group in contradicting(groups, label_names.astype(str)):
        names = records[column].iloc[group] if column else group
        named.append(
            " and ".join(f"{name} ({label})" for name, label in zip(names, label_names[group], strict=True))
        )
    if named:
        note += f" {len(named):,} of these pictures have different labels: {some(named)}."
    return (note,)
