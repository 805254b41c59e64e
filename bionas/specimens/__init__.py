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

import numpy as np
import pandas as pd

from bionas import places
from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import sources
from bionas.specimens.collection import OTHER, SpecimenSet, Splits, fold_rare, limited
from bionas.specimens.images import ImageStore
from bionas.specimens.loader import AUGMENTATIONS, Batch, BatchLoader
from bionas.specimens.metadata import METADATA_PRESETS, Metadata, MetadataEncoding
from bionas.specimens.schema import missing
from bionas.specimens.sources import SOURCES, Collected
from bionas.specimens.splits import SPLITS

for _module in pkgutil.iter_modules(sources.__path__):
    importlib.import_module(f"{sources.__name__}.{_module.name}")

__all__ = [
    "AUGMENTATIONS", "METADATA_PRESETS", "SOURCES", "SPLITS", "Batch", "BatchLoader", "Collected", "ImageStore",
    "Metadata", "MetadataEncoding", "SpecimenSet", "Splits", "fold_rare", "load_specimens",
]  # fmt: skip


def load_specimens(
    source: str = "synthetic",
    data_dir: str | os.PathLike | None = None,
    *,
    target: str = "order",
    min_records: int | None = None,
    image_size: int = 64,
    limit: int | None = None,
    seed: int = 0,
    missing_images: str = "error",
    cache_dir: str | os.PathLike = "data/cache",
    **source_options: Any,
) -> SpecimenSet:
    """A collection, ready to be split.

    Args:
        source: a name of `SOURCES`.
        data_dir: where the collection lies, for sources that read one.
        target: the column to predict; records without a value there are dropped and counted.
        min_records: classes of fewer records become "Other" (the paper: 500); None for the source's own default.
        image_size: side of the decoded images in pixels.
        limit: draw that many specimens, stratified, for a run of seconds; None for all.
        seed: of `limit` and of whatever the source draws.
        missing_images: "error" or "skip", for records whose image is not there.
        cache_dir: where decoded images are kept; a relative one lies in the repository (`places.root`).
        source_options: what else the source takes.

    Raises:
        UnknownName: no such source, or no such option of it.
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
    specimens = _labelled(found, source, target, min_records)
    return specimens if limit is None else limited(specimens, limit, seed)


def _labelled(found: Collected, source: str, target: str, min_records: int) -> SpecimenSet:
    """The collection with labels from the target column, rare classes folded."""
    if target not in found.records:
        raise UnknownName("target column", target, map(str, found.records.columns))
    notes = list(found.notes)
    unlabelled = missing(found.records[target])
    if unlabelled.all():
        raise SpecimenError(f"no record has a value in the column {target!r}: there is nothing to learn from.")
    kept = np.flatnonzero(~unlabelled)
    if unlabelled.any():
        notes.append(f"{unlabelled.sum():,} of {len(unlabelled):,} records have no {target} and were left out.")
    names = found.records[target].iloc[kept].astype(str).str.strip().to_numpy(dtype=object)
    _refuse_two_spellings(names, target)
    folded = fold_rare(names, min_records)
    rare = pd.Series(names[folded != names]).value_counts()
    if len(rare):
        listed = ", ".join(
            f"{name} ({rare[name]:,})" for name in sorted(rare.index, key=lambda name: (-rare[name], name))
        )
        notes.append(
            f"{len(rare)} {target} classes of fewer than {min_records:,} records ({rare.sum():,} in all) are "
            f"{OTHER!r}: {listed}."
        )
    class_names = sorted(set(folded) - {OTHER}) + [OTHER] * (OTHER in folded)
    position = {name: index for index, name in enumerate(class_names)}
    return SpecimenSet(
        records=found.records.iloc[kept].reset_index(drop=True),
        labels=np.array([position[name] for name in folded], dtype=np.int64),
        class_names=tuple(class_names),
        images=None if found.images is None else found.images.subset(kept) if unlabelled.any() else found.images,
        source=source,
        synthetic=found.synthetic,
        target=target,
        notes=tuple(notes),
        origin=found.origin,
    )


def _refuse_two_spellings(names: np.ndarray, target: str) -> None:
    counts = pd.Series(names).value_counts()
    spellings: dict[str, list[str]] = {}
    for name in sorted(counts.index):
        spellings.setdefault(" ".join(name.casefold().split()), []).append(name)
    doubtful = [names for names in spellings.values() if len(names) > 1]
    if doubtful:
        listed = "; ".join(" and ".join(f"{name!r} ({counts[name]:,})" for name in names) for names in doubtful)
        raise SpecimenError(f"column {target!r}: one class is spelt in several ways: {listed}. Use one spelling.")
