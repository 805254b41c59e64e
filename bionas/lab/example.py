"""Photographs to try the laboratory's commands on: embedded (synthetic) specimens as files in folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from bionas.specimens.collection import SpecimenSet
from bionas.system import files


class Example(NamedTuple):
    """`labelled`: a folder with one sub-folder per class; `new`: a folder of further photographs without labels."""

    labelled: Path
    new: Path


def write_example(
    specimens: SpecimenSet, folder: str | os.PathLike, per_class: int, new_per_class: int, classes: int = 6
) -> Example:
    """Write photographs of the commonest classes as PNG files. Files that are there already stay.

    Args:
        specimens: with images.
        folder: gets the sub-folders `labelled/CLASS/` and `new/`.
        per_class, new_per_class: photographs of each class in the two folders.
        classes: how many.
    """
    example = Example(Path(folder) / "labelled", Path(folder) / "new")
    labels = specimens.labels
    wanted = per_class + new_per_class
    for name in list(specimens.counts().index)[:classes]:
        positions = np.flatnonzero(labels == specimens.class_names.index(name))[:wanted]
        for place, (position, pixels) in enumerate(
            zip(positions, specimens.require_images().pixels(positions))
        ):
            file = f"{position:05d}.png"
            path = example.labelled / str(name) / file if place < per_class else example.new / file
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with files.replacing(path) as out:
                    Image.fromarray(pixels).save(out, "PNG")
    return example
