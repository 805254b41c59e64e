"""Specimens (section IV): records, photographs and labels; sources, splits and batches.

`load_specimens("folder", "my_photographs")` is the entry point. It reads records and images from the source, takes the
labels from the target column, folds rare classes into Other, and returns a `SpecimenSet`, whatever the source.
"""

from __future__ import annotations

import inspect
import numbers
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet, Splits, limited
from bionas.specimens.copies import copies_note
from bionas.specimens.images import ImageStore
from bionas.specimens.labels import fold_rare, labelled
from bionas.specimens.loader import Batch, BatchLoader
from bionas.specimens.measurements import plausible
from bionas.specimens.metadata import METADATA_PRESETS, Metadata, MetadataEncoding
from bionas.specimens.notes import require_balance
from bionas.specimens.sources import (
    SOURCES,
    Collected,
    Reading,
    bioscan1m,
    bioscan5m,
    folder,
    insects1m,
    records,
    synthetic,
)
from bionas.specimens.splits import SPLITS
from bionas.system import places

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
    "bioscan1m",
    "bioscan5m",
    "fold_rare",
    "folder",
    "insects1m",
    "load_specimens",
    "records",
    "synthetic",
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
    image_store: str = "auto",
    cache_dir: str | os.PathLike = "data/cache",
    **source_options: Any,
) -> SpecimenSet:
    """A collection, ready to be split.

    The rows that the source reads equal the specimens plus the rows counted in `notes` (see `specimens.notes`).

    Args:
        source: a name of `SOURCES`.
        data_dir: folder or file of the collection, for sources that read one.
        target: the column to predict.
        min_records: classes of fewer records become "Other" (the paper: 500); None for the source's own default.
        image_size: side of the decoded images in pixels.
        limit: draw that many specimens, stratified, for a run of seconds; None for all.
        seed: of `limit` and of a source that draws.
        unlabelled: records without a value in the target column are left out and counted ("drop"), or form the class
            "Unlabelled" ("class").
        image_store: "auto", "decoded" or "stream" (`streaming.open_images`), for sources that read photographs.
        missing_images: "error" or "skip", for records whose image is not there.
        cache_dir: folder of decoded images; a relative path starts at the repository (`places.root`).
        source_options: further options of the source.

    Raises:
        UnknownName: no such source, no such option of it, no such column to predict.
        SpecimenError: the collection cannot be used as it is, or a number is out of its range; the message says what to
            do.
    """
    collect = SOURCES[source]
    target = str(target)  # `-p target=2024` arrives as a number
    _require_whole("image_size", image_size, 1)
    _require_whole("min_records", min_records, 0)
    _require_whole("limit", limit, 1)
    _require_whole("workers", source_options.get("workers"), 1)
    _require_share("max_unreadable", source_options.get("max_unreadable", 0.0))
    if missing_images not in ("error", "skip"):
        raise UnknownName("choice of missing_images", missing_images, ("error", "skip"))
    known = inspect.signature(collect).parameters
    options = [name for name, parameter in known.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    of_reading = [field.name for field in fields(Reading)] if "reading" in known else []
    for name in source_options:
        if name not in (*options, *of_reading):
            raise UnknownName(f"option of source {source!r}", name, [*options, *of_reading])
    asked = {
        "image_size": image_size,
        "cache_dir": places.root() / cache_dir,  # an absolute path stays as it is
        "seed": seed,
        "target": target,
        "missing_images": missing_images,
        "image_store": image_store,
        **source_options,
    }
    given = {name: asked[name] for name in options if name in asked}
    if of_reading:
        given["reading"] = Reading(**{name: asked[name] for name in of_reading if name in asked})
    found = collect(None if data_dir is None else Path(data_dir), **given)
    plausible_records, implausible = plausible(found.records)
    found = found._replace(records=plausible_records, notes=(*found.notes, *implausible))
    min_records = found.default_min_records if min_records is None else min_records
    specimens = labelled(found, source, target, min_records, unlabelled)
    specimens = _with_copies_noted(specimens)
    specimens = specimens if limit is None else limited(specimens, limit, seed)
    if found.rows is not None:
        require_balance(found.rows, len(specimens), specimens.notes, source)
    return specimens


def _require_whole(name: str, value: object, lowest: int) -> None:
    if value is None:
        return
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < lowest:
        raise SpecimenError(f"{name}={value!r}: expected a whole number of at least {lowest}.")


def _require_share(name: str, value: object) -> None:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise SpecimenError(
            f"{name}={value!r}: expected a share between 0 and 1, such as 0.05 (with a decimal point)."
        )


def _with_copies_noted(specimens: SpecimenSet) -> SpecimenSet:
    copies = specimens.copies
    note = copies_note(copies, specimens.records, specimens.label_names)
    noted = replace(specimens, notes=(*specimens.notes, *note)) if note else specimens
    vars(noted)["copies"] = copies  # a cached property: not compared again by `split`
    return noted
