"""Collections, splits, encodings and leakage reports of plans, each made once per process.

They are kept by what determines them, so that plans that differ only in seed, augmentation or rate share them.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bionas.errors import SpecimenError
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.decoding import SUFFIXES
from bionas.specimens.leakage import leakage_report
from bionas.specimens.metadata import MetadataEncoding, preset_fields
from bionas.system import places
from bionas.training.maps import Maps

AUTO = "auto"
"""Of `metadata` and `split`: chosen by what the records hold."""

DEFAULT_METADATA = "leak_free"


class Kept:
    """The last few results of a function, by a key; a result is made once while it is kept.

    `functools.lru_cache` does not do: specimens have no hash, and hashing what they hold takes seconds. A key names them
    by `id`, so what an id stands for is kept beside the result.
    """

    def __init__(self, size: int):
        self.size = size
        self._results: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()

    def get(self, of: Any, key: Hashable, make: Callable[[], Any]) -> Any:
        """The result for (`of`, `key`), made by `make` where it is not kept."""
        key = (id(of), key)
        if key not in self._results:
            self._results[key] = (make(), of)
            while len(self._results) > self.size:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key][0]

    def clear(self) -> None:
        self._results.clear()


_splits, _encodings, _reports, _on_maps = Kept(4), Kept(8), Kept(8), Kept(2)


def forget() -> None:
    """Drop everything that is kept."""
    specimens.cache_clear()
    for kept in (_splits, _encodings, _reports, _on_maps):
        kept.clear()


@functools.lru_cache(maxsize=2)
def specimens(*, source: str, data_dir: str | None, source_options: str, **choices: Any) -> SpecimenSet:
    """The whole collection; `choices` are those of `load_specimens`."""
    return load_specimens(source, data_dir, cache_dir=places.cache(), **choices, **named(source_options))


def scheme(collection: SpecimenSet, source: str, split: str) -> str:
    """The name of a split scheme; "auto" is "official" where a folder's records have a split, else "paper"."""
    if split != AUTO:
        return split
    own = source == "folder" and "split" in collection.records and collection.records["split"].notna().any()
    return "official" if own else "paper"


def splits(collection: SpecimenSet, source: str, split: str, seed: int) -> Splits:
    """Training, validation and test specimens.

    Raises:
        SpecimenError: a class too small to train on; the message says which and what to do.
    """
    name = scheme(collection, source, split)

    def make() -> Splits:
        collection.require_trainable()
        return collection.split(name, seed)

    return _splits.get(collection, (name, seed), make)


def on_maps(collection: SpecimenSet, maps: Maps, device: torch.device) -> SpecimenSet:
    """The collection with a stem's maps in place of its photographs, computed or read from the cache."""
    return _on_maps.get(collection, maps.key, lambda: maps.of(collection, places.cache(), device))


def encoding(divided: Splits, metadata: str, bin_buckets: int) -> MetadataEncoding:
    """The metadata encoding, fitted on the training side.

    With "auto" that of leak_free where these records hold any of its fields, else of none: one printed line says so.
    """

    def make() -> MetadataEncoding:
        train, preset = divided.train, metadata
        if preset == AUTO:
            preset = DEFAULT_METADATA
            if not preset_fields(preset, train.records, train.target):
                preset = "none"
                print(
                    "metadata: these records hold no place and no measurement, so networks see the image alone (metadata=none).",
                    flush=True,
                )
        return MetadataEncoding.fit(train, preset, bin_buckets)

    return _encodings.get(divided, (metadata, bin_buckets), make)


def leakage(divided: Splits, fields: tuple[str, ...]) -> pd.DataFrame:
    """What each field tells of the target (`specimens.leakage`)."""
    return _reports.get(divided, fields, lambda: leakage_report(divided, divided.train.target, fields))


def named(options: str) -> dict[str, Any]:
    """ "images=false share=0.1 package=cropped" -> {"images": False, "share": 0.1, "package": "cropped"}.

    Raises:
        SpecimenError: something that is not NAME=VALUE.
    """
    values = {}
    for part in shlex.split(options):
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise SpecimenError(
                f"source_options={options!r}: {part!r} is not NAME=VALUE. Separate options by blanks, as in "
                '"package=cropped_256 splits=train+val+test".'
            )
        try:
            values[name] = json.loads(value)  # numbers, true, false, null
        except json.JSONDecodeError:
            values[name] = value
    return values


def has_fewer_photographs(folder: str | os.PathLike, n: int) -> bool:
    """Whether there are photographs below a folder, and fewer than `n`; it stops counting there."""
    found = 0
    for _, _, names in os.walk(Path(folder).expanduser()):
        found += sum(name.lower().endswith(SUFFIXES) for name in names)
        if found >= n:
            return False
    return found > 0
