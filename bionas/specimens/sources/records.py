"""A table of records without photographs: any CSV or TSV with taxonomy, BINs, places or measurements.

For the metadata encoder alone, and for measuring how far metadata determine the order. Known headers of other exports
(`lat`, `country_or_geography`, ...) are renamed to those of `schema`; other columns keep their names. Words for "not
known" in such exports ("Unknown", "Unrecoverable", "not_classified", "Unknown species") count as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bionas.errors import SpecimenError
from bionas.specimens.columnar import read_columns
from bionas.specimens.gathering import NamedRecords, existing, unknown_blanked, without_repeats
from bionas.specimens.notes import some
from bionas.specimens.schema import RANKS
from bionas.specimens.sources import SOURCES, Collected

RENAMED = {"uri": "dna_bin", "bin_uri": "dna_bin", "nucraw": "dna_barcode"}
"""Column of another export -> name in the schema, beside those of `csv_file.HEADERS`. `geography_broad` holds regions of the
world, not provinces, and keeps its name."""

UNKNOWN = (
    "unknown",
    "unrecoverable",
    "unidentified",
    "not_classified",
    *(f"unknown {rank}" for rank in RANKS),
)
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt", ".txt.gz")


@SOURCES.register("records")
def records(
    data_dir: Path | None,
    *,
    cache_dir: Path,
    target: str = "order",
    table: str | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Collected:
    """The records of one table, without images.

    Args:
        data_dir: the table (.csv, .tsv, or one of them with .gz), or a folder that holds it.
        cache_dir: where the table is kept in columns.
        target: the column that must be there.
        table: name of the table where `data_dir` is a folder of several.
        renamed: {header in the table: column}, for headers that are not known.

    Raises:
        SpecimenError: no such table, no such column (the nearest is named), or two records of one `processid` differ.
    """
    path = _table(
        existing(data_dir, "records", "a table (.csv, .tsv, .csv.gz, .tsv.gz)", file_too=True), table
    )
    found = read_columns(path, cache_dir=cache_dir, required=(target,), renamed=RENAMED | dict(renamed or {}))
    frame, blanked = unknown_blanked(found.frame, UNKNOWN)
    listed = "; ".join(
        f"{some(map(repr, words))} in {column} ({n:,})" for column, (words, n) in blanked.items()
    )
    notes = [f"Words for what is not known count as missing: {listed}."] if blanked else []
    if "processid" in frame:
        frame, repeats = without_repeats(NamedRecords(frame, "processid", path.name))
        notes += repeats
    return Collected(frame, None, (*found.notes, *notes), origin=f"Records of {path.name}", rows=found.rows)


def _table(path: Path, name: str | None) -> Path:
    if path.is_file():
        return path
    tables = sorted(entry.name for entry in path.iterdir() if entry.name.lower().endswith(SUFFIXES))
    if name is not None:
        if name not in tables:
            raise SpecimenError(
                f"table={name!r} is not in {str(path)!r}. Tables there: {some(tables) or 'none'}."
            )
        return path / name
    if len(tables) != 1:
        what = (
            f"{len(tables)} tables in {str(path)!r}: {some(tables)}"
            if tables
            else f"no table in {str(path)!r}"
        )
        raise SpecimenError(
            f"{what}. Give the file itself: data_dir='.../{tables[0] if tables else 'records.csv'}'."
        )
    return path / tables[0]
