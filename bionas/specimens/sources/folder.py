"""A folder of photographs and a table of labels: the source for one's own collection.

The folder holds images at any depth and one CSV or TSV: `labels.csv`, or the only table there, or the one named by
`labels=`. The table has a column `file` (or image, path, filename), the target column, and any further columns of the
schema (`family`, `dna_bin`, `country`, `split`, ...). Without a table, sub-folders are the labels: `Diptera/a.jpg`, or
`train/Diptera/a.jpg` with the sides of a split above them.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.filenames import FileNames
from bionas.specimens.folders import Found, find_images, from_sub_folders, skip_remedy
from bionas.specimens.gathering import country_codes_kept, decoded, existing
from bionas.specimens.measurements import numbers
from bionas.specimens.notes import SHOWN, LeftOut, some
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.schema import NUMERIC, missing
from bionas.specimens.sources import SOURCES, Collected, Reading
from bionas.specimens.tables import FILE_NAMES, Table, read_table


@SOURCES.register("folder")
def folder(
    data_dir: Path | None,
    reading: Reading,
    *,
    target: str = "order",
    labels: str | None = None,
) -> Collected:
    """Specimens of a folder of photographs.

    Args:
        data_dir: the folder.
        reading: how photographs are decoded, cropped to a square unless it says otherwise.
        target: the column that must be there.
        labels: name of the table, relative to `data_dir`.

    Raises:
        SpecimenError: the folder, the table or too many photographs cannot be used; the message names rows and files.
        UnknownName: no such fit.
    """
    data_dir = existing(data_dir, "folder", "the folder that holds the photographs and labels.csv")
    found = find_images(data_dir)
    table_file = _table_file(data_dir, labels)
    if table_file is None:
        records, notes, rows = from_sub_folders(data_dir, found, target, reading.missing_images)
    else:
        table = read_table(table_file)
        records, notes = _from_table(data_dir, table, table_file.name, found, target, reading.missing_images)
        rows = table.rows
        notes = [*notes, *_about_unlabelled(found, records)]

    photographs = FolderPhotographs(data_dir, records["file"].tolist())
    remedy = "copy them again from the original, take their rows out of the table"
    pairs = decoded(records, photographs, reading, remedy, fit="crop")
    origin = f"Photographs in {data_dir.resolve().name}"
    return Collected(pairs.records, pairs.images, (*notes, *pairs.notes), origin=origin, rows=rows)


def _about_unlabelled(found: Found, records: pd.DataFrame) -> list[str]:
    """Notes on images that the table does not name, and on photographs that cannot be read."""
    unlabelled = sorted(set(found.images) - set(records["file"]))
    notes = list(found.notes)
    if unlabelled:
        notes.append(
            f"{len(unlabelled):,} of {len(found.images):,} images have no label and were left out: {some(unlabelled)}."
        )
    return notes


def _table_file(data_dir: Path, labels: str | None) -> Path | None:
    tables = sorted(path for path in data_dir.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    names = [path.name for path in tables]
    if labels is not None:
        if not (data_dir / labels).is_file():
            raise SpecimenError(
                f"labels={labels!r} is not in {str(data_dir)!r}. Tables there: {', '.join(names) or 'none'}."
            )
        return data_dir / labels
    for name in ("labels.csv", "labels.tsv"):
        if name in names:
            return data_dir / name
    if len(tables) > 1:
        raise SpecimenError(
            f"{len(tables)} tables in {str(data_dir)!r}: {', '.join(names)}. Say which one with labels='{names[0]}'."
        )
    return tables[0] if tables else None


def _from_table(
    data_dir: Path, table: Table, name: str, found: Found, target: str, missing_images: str
) -> tuple[pd.DataFrame, list[str]]:
    frame, lines, notes = table.frame, table.lines, list(table.notes)
    columns = ", ".join(map(str, frame.columns))
    file_column = next((column for column in FILE_NAMES if column in frame), None)
    if file_column is None:
        raise SpecimenError(f"{name} has no column that names the images (`file`). Columns: {columns}.")
    if target not in frame:
        near = difflib.get_close_matches(target, list(map(str, frame.columns)), n=1, cutoff=0.5)
        hint = f"Rename {near[0]!r}, or pass" if near else "Add it, or pass"
        raise SpecimenError(
            f"{name} has no column {target!r}. Columns: {columns}. {hint} target='...' for another one."
        )
    frame = frame.rename(columns={file_column: "file"})
    frame = frame[["file", *(column for column in frame.columns if column != "file")]]

    unnamed = missing(frame["file"])
    if unnamed.any():
        sentence = (
            f"{unnamed.sum():,} rows of {name} name no image and were left out: row {some(lines[unnamed])}."
        )
        notes.append(LeftOut(sentence, unnamed.sum()))
        frame, lines = frame[~unnamed].reset_index(drop=True), lines[~unnamed]
    files = _matched(FileNames(data_dir, found.images, found.unsupported), frame["file"], lines, name)
    frame["file"] = files.images
    notes += files.notes
    if files.absent:
        frame, lines = _without_absent(frame, lines, name, files.absent, missing_images, notes)
    frame = _without_repeats(frame, lines, name, target, notes)
    frame, kept_codes = country_codes_kept(frame)
    notes += kept_codes
    for column in frame.columns[1:]:
        if column not in NUMERIC:
            frame[column] = frame[column].mask(missing(frame[column]))
            continue
        frame[column], strange, read = numbers(frame[column], column)
        notes += read
        if strange:
            notes.append(
                f"column {column!r}: {len(strange)} values are no numbers and count as missing: {some(strange)}."
            )
    return frame, notes


class _Files(NamedTuple):
    """`images` per row; `absent`: row -> sentence on why there is none; notes on names that were guessed."""

    images: list[str]
    absent: dict[int, str]
    notes: list[str]


def _matched(names: FileNames, wanted: pd.Series, lines: np.ndarray, table: str) -> _Files:
    """The image of each row. An image that is guessed from a part of its path must be meant by one name only."""
    matches = [names.match(name) for name in wanted]
    named_by: dict[str, set[str]] = {}
    for match, name in zip(matches, wanted, strict=True):
        if not match.problem:
            named_by.setdefault(match.image, set()).add(name)
    absent: dict[int, str] = {}
    guessed: dict[str, list[int]] = {}
    for row, (match, name) in enumerate(zip(matches, wanted, strict=True)):
        problem = match.problem
        if not problem and match.guessed and len(named_by[match.image]) > 1:
            problem = f"is not there; {match.image!r} is, but it is named by another row"
        if problem:
            absent[row] = f"{table}, row {lines[row]}: {name!r} {problem}."
        elif match.guessed:
            guessed.setdefault(match.guessed, []).append(row)
    notes = [
        f"{len(rows):,} rows of {table} were matched by {how}: row {some(lines[rows])} "
        f"({wanted.iloc[rows[0]]!r} is {matches[rows[0]].image!r})."
        for how, rows in guessed.items()
    ]
    return _Files([match.image for match in matches], absent, notes)


def _without_absent(
    frame: pd.DataFrame,
    lines: np.ndarray,
    name: str,
    absent: dict[int, str],
    missing_images: str,
    notes: list[str],
) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows whose image is there, a note on the others.

    Raises:
        SpecimenError: an image is missing and `missing_images` is "error", or all are.
    """
    rows = sorted(absent)
    summary = f"{len(rows):,} of {len(frame):,} files are missing ({len(rows) / len(frame):.1%})."
    listed = "\n".join(absent[row] for row in rows[:SHOWN])
    more = f"\n... and {len(rows) - SHOWN:,} more." if len(rows) > SHOWN else ""
    if missing_images == "error":
        raise SpecimenError(
            f"{listed}{more}\n{summary} Fix the names, or pass {skip_remedy()} to go on without them."
        )
    if len(rows) == len(frame):
        raise SpecimenError(
            f"{listed}{more}\nNone of the files in {name} is there: nothing is left to skip to."
        )
    notes.append(LeftOut(f"{summary} Their rows were skipped: row {some(lines[rows])}.", len(rows)))
    kept = np.setdiff1d(np.arange(len(frame)), rows)
    return frame.iloc[kept].reset_index(drop=True), lines[kept]


def _without_repeats(
    frame: pd.DataFrame, lines: np.ndarray, name: str, target: str, notes: list[str]
) -> pd.DataFrame:
    """One row per image: the first of repeated ones.

    Raises:
        SpecimenError: one image has two labels.
    """
    repeated = frame.duplicated("file").to_numpy()
    if not repeated.any():
        return frame
    first = frame.drop_duplicates("file").set_index("file")[target]
    first_line = dict(zip(frame["file"][~repeated], lines[~repeated], strict=True))
    contradicting = [
        row for row in np.flatnonzero(repeated) if frame[target][row] != first[frame["file"][row]]
    ]
    if contradicting:
        listed = "\n".join(
            f"{name}, rows {first_line[file]} and {lines[row]}: {file!r} is {first[file]!r} and {frame[target][row]!r}."
            for row in contradicting[:SHOWN]
            for file in [frame["file"][row]]
        )
        raise SpecimenError(
            f"{listed}\n{len(contradicting):,} images have two labels. Keep one row per image."
        )
    sentence = f"{repeated.sum():,} rows of {name} repeat an image; the first of each was kept: row {some(lines[repeated])}."
    notes.append(LeftOut(sentence, repeated.sum()))
    return frame[~repeated].reset_index(drop=True)
