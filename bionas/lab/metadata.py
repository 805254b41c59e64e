"""Metadata of photographs: which columns a model may use, how they become tensors, and what is missing.

`chosen` reads what `--metadata` asks for and refuses columns that hold the answer. `Columns` is fitted on training
records and kept in `model.json`; `read_records` finds the records of new photographs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.filenames import FileNames
from bionas.specimens.measurements import numbers
from bionas.specimens.metadata import LEAKING, METADATA_PRESETS, Metadata, MetadataEncoding, preset_fields
from bionas.specimens.schema import ALIASES, CATEGORICAL, NUMERIC, RANKS, cleaned, coded, missing
from bionas.specimens.tables import FILE_NAMES, read_table

NONE = "none"
ANSWERS = (*RANKS, "dna_bin", "dna_barcode", "taxon")
"""Columns that come from an identification: they hold the answer, and a new photograph does not have them."""

NO_DESCRIPTION = ("file", "split", "processid", "sampleid")
"""Columns that name or divide photographs."""

NUMBERS_FROM = 12
"""A column whose values are all numbers is numeric where it has more different ones than this; otherwise they are categories
(months, trap numbers)."""

IDENTIFIES = 0.5
"""A category column with more different values than this share of its rows names photographs in place of describing them."""


def chosen(choice: str, specimens: SpecimenSet, group: str | None = None) -> tuple[str, ...]:
    """The columns that `--metadata` asks for: "none", a preset without leakage, or names joined by a comma.

    Raises:
        SpecimenError: a column that holds the answer, names photographs, or is empty.
        UnknownName: no such column.
    """
    if choice == NONE:
        return ()
    records = specimens.records
    if choice in LEAKING:
        raise SpecimenError(
            f"--metadata {choice}: these columns hold the answer, which a new photograph does not come with. "
            "Use leak_free, or name columns."
        )
    if choice in METADATA_PRESETS:
        fields = preset_fields(choice, records, specimens.target)
        if not fields:
            raise SpecimenError(
                f"--metadata {choice} needs at least one of the columns {', '.join(METADATA_PRESETS[choice])} in the table "
                f"of labels. Its columns: {', '.join(map(str, records.columns))}."
            )
        return fields
    spelt = {str(name).lower(): str(name) for name in records.columns}
    named = []
    for name in filter(None, (part.strip() for part in choice.split(","))):
        column = spelt.get(name.lower()) or spelt.get(ALIASES.get(name.lower(), ""))
        if column is None:
            known = [column for column in spelt.values() if column not in (*ANSWERS, *NO_DESCRIPTION)]
            raise UnknownName("column for --metadata", name, [*known, "leak_free", NONE])
        _require_description(column, specimens, group)
        named.append(column)
    if not named:
        raise SpecimenError("--metadata names no column. Write names joined by a comma, as country,habitat.")
    return tuple(dict.fromkeys(named))


def _require_description(column: str, specimens: SpecimenSet, group: str | None) -> None:
    if column == specimens.target or column in ANSWERS:
        raise SpecimenError(
            f"--metadata {column}: it is {'what is predicted' if column == specimens.target else 'an identification'}, "
            "which a new photograph does not come with. Leave it out."
        )
    if column in NO_DESCRIPTION:
        raise SpecimenError(f"--metadata {column}: it names or divides photographs. Leave it out.")
    if group is not None and column.lower() == group.lower():
        raise SpecimenError(
            f"--metadata {column}: it is the --group column, whose values new photographs do not share. Leave it out."
        )
    if missing(specimens.records[column]).all():
        raise SpecimenError(f"--metadata {column}: the column is empty. Fill it in, or leave it out.")


@dataclass(frozen=True)
class Columns:
    """The metadata columns of a model, as `MetadataEncoding` encodes them: index 0 is "unknown or missing"."""

    encoding: MetadataEncoding

    @classmethod
    def fit(cls, train: pd.DataFrame, fields: Sequence[str]) -> Columns:
        """Values and scales of the training records.

        Raises:
            SpecimenError: a column has no value in training, or a different one for most photographs.
        """
        categories, scales = {}, {}
        for name in fields:
            values, wrong, _ = _numbers(train[name], name)
            known = values.dropna()
            texts = coded(train[name]).texts
            if not texts:
                raise SpecimenError(f"--metadata {name}: no training photograph has a value. Leave it out.")
            if name in NUMERIC or (name not in CATEGORICAL and not wrong and known.nunique() > NUMBERS_FROM):
                sd = float(known.std(ddof=0))
                scales[name] = (float(known.mean()), sd if sd > 0 else 1.0)
                continue
            if len(texts) > max(NUMBERS_FROM, IDENTIFIES * len(train)):
                raise SpecimenError(
                    f"--metadata {name}: {len(texts):,} different values for {len(train):,} training photographs. A column "
                    "that differs from photograph to photograph teaches nothing about new ones. Leave it out."
                )
            categories[name] = tuple(sorted(texts))
        return cls(MetadataEncoding("columns", categories, scales))

    @property
    def fields(self) -> tuple[str, ...]:
        return self.encoding.fields

    def describe(self) -> list[str]:
        """ "country (12 values)", "elevation (number)"."""
        categories = [
            f"{name} ({len(values):,} values)" for name, values in self.encoding.vocabularies.items()
        ]
        return categories + [f"{name} (number)" for name in self.encoding.scales]

    def tensors(self, records: pd.DataFrame) -> Metadata:
        """Categorical int64 (N, F) and numeric float32 (N, G); a column that `records` lack is missing throughout."""
        present = {name: _numbers(records[name], name)[0] for name in self.encoding.scales if name in records}
        return self.encoding.of_records(records.assign(**present)).take(slice(None))

    def stated(self, records: pd.DataFrame) -> tuple[list[str], list[str]]:
        """Of each record the columns that are used, and those that are not, joined by |: "habitat" where the value is missing,
        "habitat=swamp" where training had no such value."""
        found = self.tensors(records)
        known = np.concatenate([found.categorical.numpy() > 0, ~np.isnan(found.numeric.numpy())], axis=1)
        texts = []
        for name in self.fields:
            column = records[name] if name in records else pd.Series([None] * len(records))
            absent = missing(column)
            texts.append([name if gone else f"{name}={cleaned(str(v))}" for v, gone in zip(column, absent)])
        used, unused = [], []
        for row in range(len(records)):
            used.append("|".join(name for name, has in zip(self.fields, known[row]) if has))
            unused.append("|".join(text[row] for text, has in zip(texts, known[row]) if not has))
        return used, unused

    def to_plain(self) -> dict[str, Any]:
        """As `model.json` keeps it."""
        return {
            "categories": {name: list(values) for name, values in self.encoding.vocabularies.items()},
            "numbers": {name: list(scale) for name, scale in self.encoding.scales.items()},
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Columns:
        categories = {name: tuple(values) for name, values in content["categories"].items()}
        scales = {name: (float(mean), float(sd)) for name, (mean, sd) in content["numbers"].items()}
        return cls(MetadataEncoding("columns", categories, scales))


def read_records(path: str | os.PathLike, names: Sequence[str], fields: Sequence[str]) -> pd.DataFrame:
    """The records of photographs from a table: one row per name, in their order, with the columns of `fields` it has.

    Args:
        path: a CSV or TSV with a column `file` (or image, path, filename) and some of `fields`.
        names: of the photographs, as `predict` lists them.

    Raises:
        SpecimenError: no table, none of the columns, no row of a photograph, or two rows of one.
    """
    table = read_table(path)
    frame = table.frame
    file = next((column for column in FILE_NAMES if column in frame), None)
    if file is None:
        raise SpecimenError(
            f"{path} has no column that names the photographs (`file`). Its columns: {', '.join(frame.columns)}."
        )
    held = [name for name in fields if name in frame]
    if not held:
        raise SpecimenError(
            f"{path} has none of the columns that this model was trained with: {', '.join(fields)}. Its columns: "
            f"{', '.join(frame.columns)}. Name the columns as in training, or predict without --records."
        )
    match = FileNames(Path.cwd(), names).match
    rows: dict[str, int] = {}
    for row, given in enumerate(frame[file]):
        found = match(given)
        if found.problem:
            continue
        if found.image in rows:
            raise SpecimenError(
                f"{path}, row {table.lines[row]}: {given!r} is there twice (row {table.lines[rows[found.image]]}). Keep one."
            )
        rows[found.image] = row
    if not rows:
        raise SpecimenError(
            f"{path} names none of the photographs: its first row is {frame[file].iloc[0]!r}, a photograph is {names[0]!r}. "
            "Write the names in the column `file` as in the folder of photographs."
        )
    places = [rows.get(name, -1) for name in names]
    padded = pd.concat(
        [frame[held], pd.DataFrame([dict.fromkeys(held)])], ignore_index=True
    )  # the last: nothing known
    return padded.iloc[places].reset_index(drop=True)


def _numbers(column: pd.Series, name: str) -> tuple[pd.Series, list[str], list[str]]:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(np.float64), [], []
    return numbers(column, name)
