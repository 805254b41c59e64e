"""Records as tensors for the metadata encoder (section III-A.2, Eq. 10).

The paper does not list its metadata fields. `METADATA_PRESETS` are the possible readings, named so that a label among the
inputs is visible: `as_published` (seven taxonomic ranks and the BIN) and `no_target` determine the order (see
`leakage`), `leak_free` holds place and measurement only, `none` trains on images alone. `MetadataEncoding` learns vocabularies and
scales from the training split and nothing else.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.schema import CATEGORICAL, NUMERIC, RANKS, coded, missing

METADATA_PRESETS: dict[str, tuple[str, ...]] = {
    "as_published": (*RANKS, "dna_bin"),
    "no_target": ("family", "subfamily", "genus", "species", "dna_bin"),
    "leak_free": (
        "country",
        "province_state",
        "coord-lat",
        "coord-lon",
        "image_measurement_value",
        "area_fraction",
        "scale_factor",
    ),
    "none": (),
}

PRESET_MEANING = {
    "as_published": "the label itself is among the inputs",
    "no_target": "the label follows from the inputs (a genus or a BIN lies in one order)",
    "leak_free": "place and measurement: no taxonomic decision",
    "none": "image only",
}

LEAKING = ("as_published", "no_target")
"""Presets from which the order follows: available by name, never recommended."""

HASHED = "dna_bin"
"""Field hashed into a table of fixed size: one row for each of 324,411 BINs would be larger than the network."""

FORMAT, VERSION = "bionas-metadata-encoding", 1


class Metadata(NamedTuple):
    """Of B specimens: categorical int64 (B, F), 0 = unknown or missing; numeric float32 (B, G), NaN = missing.

    A table that batches are taken from (`MetadataEncoding.table`) holds its categories in int32.
    """

    categorical: Tensor
    numeric: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Metadata:
        return Metadata(*(part.to(device, non_blocking=non_blocking) for part in self))

    def take(self, positions: Tensor | slice) -> Metadata:
        """The rows at `positions` (n,) or of a slice, categories in int64."""
        return Metadata(self.categorical[positions].long(), self.numeric[positions])


def preset_table() -> pd.DataFrame:
    """The presets as a table: preset, fields, meaning."""
    rows = [
        (name, ", ".join(fields) or "-", PRESET_MEANING[name]) for name, fields in METADATA_PRESETS.items()
    ]
    return pd.DataFrame(rows, columns=["preset", "fields", "meaning"])


def named_fields(choice: str) -> tuple[str, ...]:
    """The fields of a preset, or of a list of names joined by "+" ("family+country").

    Raises:
        UnknownName: no such preset, or no such field.
    """
    if choice in METADATA_PRESETS:
        return METADATA_PRESETS[choice]
    fields = tuple(dict.fromkeys(choice.split("+")))
    unknown = [name for name in fields if name not in CATEGORICAL + NUMERIC]
    if unknown == [choice]:
        raise UnknownName("metadata preset", choice, METADATA_PRESETS)
    if unknown:
        raise UnknownName("metadata field", unknown[0], CATEGORICAL + NUMERIC)
    return fields


def preset_fields(preset: str, records: pd.DataFrame, target: str = "order") -> tuple[str, ...]:
    """The fields of a preset, or of a list (`named_fields`), that these records have a value for; `no_target` never holds
    the target itself.

    Raises:
        UnknownName: no such preset or field.
    """
    fields = [name for name in named_fields(preset) if preset != "no_target" or name != target]
    return tuple(name for name in fields if name in records and not missing(records[name]).all())


def usable_presets(specimens: SpecimenSet) -> tuple[str, ...]:
    """The presets that these records can fill at least one field of, and "none", which needs no field."""
    records, target = specimens.records, specimens.target
    return tuple(name for name in METADATA_PRESETS if name == "none" or preset_fields(name, records, target))


@dataclass(frozen=True)
class MetadataEncoding:
    """How records become `Metadata`. Made by `fit` or `from_json`.

    Attributes:
        vocabularies: categorical field -> known values, sorted; value i has index i + 1. `dna_bin` is hashed instead
            and has an empty one.
        scales: numeric field -> (mean, standard deviation) over the training specimens that have a value.
        bin_buckets: size of the hash table of BINs, index 0 not counted.
    """

    preset: str
    vocabularies: dict[str, tuple[str, ...]]
    scales: dict[str, tuple[float, float]]
    bin_buckets: int = 4096

    @classmethod
    def fit(cls, train: SpecimenSet, preset: str = "leak_free", bin_buckets: int = 4096) -> MetadataEncoding:
        """Vocabularies and scales from the training specimens. Fields they have no value for are left out.

        Args:
            train: the training specimens, and no others.
            preset: a name of `METADATA_PRESETS`, or fields by name ("family+country").
            bin_buckets: size of the hash table of BINs, for presets that hold `dna_bin`. With BIOSCAN-5M's 324,411 BINs
                some 79 share each of 4,096 buckets; every bucket is a row of the embedding.

        Raises:
            UnknownName: no such preset or field.
            SpecimenError: the records have none of the preset's fields, or there is no bucket.
        """
        if bin_buckets < 1:
            raise SpecimenError(f"bin_buckets={bin_buckets}: the table of BINs needs at least one bucket.")
        fields = preset_fields(preset, train.records, train.target)
        if named_fields(preset) and not fields:
            works = [name for name in usable_presets(train) if name not in ("none", *LEAKING)]
            others = f" Presets that these records can fill: {', '.join(works)}." if works else ""
            raise SpecimenError(
                f"metadata={preset!r} needs at least one of {', '.join(named_fields(preset))}; the training "
                f'records have none of them filled in. metadata="none" trains on images alone.{others}'
            )
        vocabularies = {
            name: _values(train.records[name]) for name in fields if name in CATEGORICAL and name != HASHED
        }
        if HASHED in fields:
            vocabularies[HASHED] = ()
        scales = {name: _scale(numbers_of(train.records[name])) for name in fields if name in NUMERIC}
        return cls(preset, vocabularies, scales, bin_buckets)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields in use: the categorical ones in the order of their columns, then the numeric ones."""
        return (*self.vocabularies, *self.scales)

    @property
    def vocabulary_sizes(self) -> tuple[int, ...]:
        """Embedding rows of each categorical field, index 0 (unknown or missing) included."""
        return tuple(
            (self.bin_buckets if name == HASHED else len(values)) + 1
            for name, values in self.vocabularies.items()
        )

    @property
    def n_numeric(self) -> int:
        return len(self.scales)

    def transform(self, specimens: SpecimenSet) -> Metadata:
        """Metadata of the specimens; a column they lack is missing throughout."""
        return self.table(specimens).take(slice(None))

    def table(self, specimens: SpecimenSet) -> Metadata:
        """What `transform` gives, to keep and to `take` batches from: half the size, since categories are int32."""
        return self.of_records(specimens.records)

    def of_records(self, records: pd.DataFrame) -> Metadata:
        """What `table` gives, of records alone."""
        n = len(records)
        categorical = np.zeros((n, len(self.vocabularies)), dtype=np.int32)
        numeric = np.full((n, len(self.scales)), np.nan, dtype=np.float32)
        for column, name in enumerate(self.vocabularies):
            if name in records:
                categorical[:, column] = self._indices(name, records[name])
        for column, (name, (mean, sd)) in enumerate(self.scales.items()):
            if name in records:
                numeric[:, column] = (numbers_of(records[name]) - mean) / sd
        return Metadata(torch.from_numpy(categorical), torch.from_numpy(numeric))

    def _indices(self, name: str, column: pd.Series) -> np.ndarray:
        codes, texts = coded(column)
        if name == HASHED:
            index = [zlib.crc32(text.encode()) % self.bin_buckets + 1 for text in texts]
        else:
            known = {value: place for place, value in enumerate(self.vocabularies[name], start=1)}
            index = [known.get(text, 0) for text in texts]
        return np.array([*index, 0], dtype=np.int32)[codes]

    def to_json(self) -> str:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "preset": self.preset,
            "bin_buckets": self.bin_buckets,
            "vocabularies": {name: list(values) for name, values in self.vocabularies.items()},
            "scales": {name: list(scale) for name, scale in self.scales.items()},
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> MetadataEncoding:
        """Raises SpecimenError, naming the field, for anything `to_json` would not have written."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecimenError(f"metadata encoding: not JSON ({error}).") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise SpecimenError(
                f"metadata encoding: `format` is not {FORMAT!r}; this is another kind of file."
            )
        if content.get("version") != VERSION:
            raise SpecimenError(
                f"metadata encoding: `version` {content.get('version')!r} cannot be read, only {VERSION}."
            )

        def need(name: str, valid: bool) -> None:
            if not valid:
                raise SpecimenError(f"metadata encoding: `{name}` is missing or malformed.")

        preset: Any = content.get("preset")
        buckets: Any = content.get("bin_buckets")
        vocabularies: Any = content.get("vocabularies")
        scales: Any = content.get("scales")
        try:
            fields = named_fields(str(preset))
        except UnknownName:
            fields = ()
        need("preset", isinstance(preset, str) and (fields != () or preset == "none"))
        need("bin_buckets", isinstance(buckets, int) and not isinstance(buckets, bool) and buckets > 0)
        need("vocabularies", isinstance(vocabularies, dict))
        for name, values in vocabularies.items():
            strings = isinstance(values, list) and all(isinstance(value, str) for value in values)
            need(f"vocabularies.{name}", strings and name in fields and name in CATEGORICAL)
            need(f"vocabularies.{name}", len(set(values)) == len(values) and (name != HASHED or not values))
        need("scales", isinstance(scales, dict))
        for name, scale in scales.items():
            pair = isinstance(scale, list) and len(scale) == 2 and all(type(x) in (int, float) for x in scale)
            need(f"scales.{name}", pair and name in fields and name in NUMERIC)
            need(f"scales.{name}", all(map(math.isfinite, scale)) and scale[1] > 0)
        return cls(
            preset,
            {name: tuple(values) for name, values in vocabularies.items()},
            {name: (float(mean), float(sd)) for name, (mean, sd) in scales.items()},
            buckets,
        )


def _values(column: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(coded(column).texts))


def numbers_of(column: pd.Series) -> np.ndarray:
    """float64 (N,), NaN where there is no finite number."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _scale(numbers: np.ndarray) -> tuple[float, float]:
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return 0.0, 1.0
    sd = float(present.std())
    return float(present.mean()), sd if sd > 0 else 1.0
