"""Specimens (section IV): what one is, where they come from, how they are divided and drawn in batches.

`load_specimens("folder", "my_photographs")` is the way in. It asks the source for records and images, takes the labels
from the target column, folds rare classes into Other, and returns a `SpecimenSet`: everything after that is the same
for every source.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from pathlib import Path
from typing import Any

from bionas.errors import UnknownName
from bionas.specimens import sources
from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet, Splits, limited
from bionas.specimens.images import ImageStore
from bionas.specimens.labels import fold_rare, labelled
from bionas.specimens.loader import Batch, BatchLoader
from bionas.specimens.metadata import METADATA_PRESETS, Metadata, MetadataEncoding
from bionas.specimens.sources import SOURCES, Collected
from bionas.specimens.splits import SPLITS
from bionas.system import places

for _module in pkgutil.iter_modules(sources.__path__):
    importlib.import_module(f"{sources.__name__}.{_module.name}")

__all__ = [
    "AUGMENTATIONS",
    "METADATA_PRESETS",
    "SOURCES",
    "SPLITS",
    "Batch",
    "BatchLoader",
    "Collected",
    "ImageStore",
    "Metadata",
    "MetadataEncoding",
    "SpecimenSet",
    "Splits",
    "fold_rare",
    "load_specimens",
]


def load_specimens(
    source: str = "synthetic",
    data_dir: str | os.PathLike | None = None,
    *,
    target: str = "order",
    min_records: int | None = None,
    image_size: int = 64,
    limit: int | None = None,
    seed: int = 0,
    unlabelled: str = "drop",
    missing_images: str = "error",
    cache_dir: str | os.PathLike = "data/cache",
    **source_options: Any,
) -> SpecimenSet:
    """A collection, ready to be split.

    Args:
        source: a name of `SOURCES`.
        data_dir: where the collection lies, for sources that read one.
        target: the column to predict.
        min_records: classes of fewer records become "Other" (the paper: 500); None for the source's own default.
        image_size: side of the decoded images in pixels.
        limit: draw that many specimens, stratified, for a run of seconds; None for all.
        seed: of `limit` and of whatever the source draws.
        unlabelled: records without a value in the target column are left out and counted ("drop"), or are a class of
            their own, "Unlabelled" ("class").
        missing_images: "error" or "skip", for records whose image is not there.
        cache_dir: where decoded images are kept; a relative one lies in the repository (`places.root`).
        source_options: what else the source takes.

    Raises:
        UnknownName: no such source, no such option of it, no such column to predict.
        SpecimenError: the collection cannot be used as it is; the message says what to do.
    """
    collect = SOURCES[source]
    if missing_images not in ("error", "skip"):
        raise UnknownName("choice of missing_images", missing_images, ("error", "skip"))
    known = inspect.signature(collect).parameters
    options = [name for name, parameter in known.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    for name in source_options:
        if name not in options and not open_ended:
            raise UnknownName(f"option of source {source!r}", name, options)
    asked = {"target": target, "missing_images": missing_images}
    found = collect(
        None if data_dir is None else Path(data_dir),
        image_size=image_size,
        cache_dir=places.root() / cache_dir,  # an absolute one stays what it is
        seed=seed,
        **{name: value for name, value in asked.items() if name in options},
        **source_options,
    )
    min_records = found.default_min_records if min_records is None else min_records
    specimens = labelled(found, source, target, min_records, unlabelled)
    return specimens if limit is None else limited(specimens, limit, seed)
