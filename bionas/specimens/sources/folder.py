"""A folder of photographs and a table of labels: the source for one's own collection.

The folder holds images at any depth and one CSV or TSV: `labels.csv`, or the only table there, or the one named by
`labels=`. The table has a column `file` (or image, path, filename), the target column, and whatever else of the schema
is known (`family`, `dna_bin`, `country`, `split`, ...). Without a table, sub-folders are the labels: `Diptera/a.jpg`,
or `train/Diptera/a.jpg` with the sides of a split above them.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.decoding import SUFFIXES
from bionas.specimens.gathering import SHOWN, existing, some
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.schema import NUMERIC, missing
from bionas.specimens.sources import SOURCES, Collected
from bionas.specimens.streaming import open_images
from bionas.specimens.tables import FILE_NAMES, Table, numbers, read_table

SPLIT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test"})


@SOURCES.register("folder")
def folder(
    data_dir: Path | None,
    *,
    image_size: int,
    cache_dir: Path,
    seed: int,
    target: str = "order",
    missing_images: str = "error",
    labels: str | None = None,
    fit: str = "crop",
    max_unreadable: float = 0.05,
    workers: int | None = None,
    image_store: str = "auto",
) -> Collected:
    """Specimens of a folder of photographs.

    Args:
        data_dir: the folder.
        image_size, fit: side of the decoded square, and how a photograph becomes one: "crop", "pad" or "stretch".
        cache_dir: where the decoded images are kept.
        seed: not used; nothing is drawn.
        target: the column that must be there.
        missing_images: rows without their photograph are an "error", or left out and counted with "skip".
        labels: name of the table, relative to `data_dir`.
        max_unreadable: share of photographs that may be damaged before the folder is refused.
        workers: threads that decode; None for the machine's processors.
        image_store: "auto", "decoded" or "stream" (`streaming.open_images`).

    Raises:
        SpecimenError: the folder, the table or too many photographs cannot be used; the message names rows and files.
        UnknownName: no such fit.
    """
    data_dir = existing(data_dir, "folder", "the folder that holds the photographs and labels.csv")
    images = _images(data_dir)
    table_file = _table_file(data_dir, labels)
    if table_file is None:
        records, notes = _from_sub_folders(data_dir, images, target)
    else:
        records, notes = _from_table(
            data_dir, read_table(table_file), table_file.name, images, target, missing_images
        )
    unlabelled = sorted(set(images) - set(records["file"]))
    if unlabelled:
        notes.append(
            f"{len(unlabelled):,} of {len(images):,} images have no label and were left out: {some(unlabelled)}."
        )

    photographs = FolderPhotographs(data_dir, records["file"].tolist())
    store, unreadable = open_images(
        photographs, image_size, fit, cache_dir, workers, image_store, max_unreadable
    )
    max_unreadable = float(max_unreadable)
    if unreadable:
        listed = some(
            [f"{records['file'][position]} ({reason})" for position, reason in sorted(unreadable.items())]
        )
        share = len(unreadable) / len(records)
        found = f"{len(unreadable):,} of {len(records):,} images cannot be read ({share:.1%}): {listed}"
        if share > max_unreadable:
            raise SpecimenError(
                f"{found}. More than max_unreadable={max_unreadable:.1%} are damaged: copy them again from the "
                "original, take their rows out of the table, or raise max_unreadable."
            )
        notes.append(f"{found}. They were skipped.")
        kept = np.setdiff1d(np.arange(len(records)), list(unreadable))
        records, store = records.iloc[kept].reset_index(drop=True), store.subset(kept)
    return Collected(records, store, tuple(notes), origin=f"Photographs in {data_dir.resolve().name}")


def _images(data_dir: Path) -> list[str]:
    """Paths of all images below the folder, relative to it, with forward slashes, sorted."""
    found, others = [], 0
    for path, folders, names in os.walk(data_dir, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        below = Path(path).relative_to(data_dir)
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append((below / name).as_posix())
            else:
                others += 1
    if not found:
        raise SpecimenError(
            f"no images in {str(data_dir)!r} or its sub-folders ({others:,} other files). "
            f"Looked for {', '.join(SUFFIXES)}."
        )
    return sorted(found)


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


def _from_sub_folders(data_dir: Path, images: list[str], target: str) -> tuple[pd.DataFrame, list[str]]:
    parts = [PurePosixPath(name).parts for name in images]
    sides = {path[0].lower() for path in parts if len(path) > 1}
    depth = 1 if sides and sides <= SPLIT_FOLDERS else 0
    rows = [
        (name, path[depth], path[0])
        for name, path in zip(images, parts, strict=True)
        if len(path) > depth + 1
    ]
    found = sorted({label for _, label, _ in rows})
    if len(found) < 2:
        seen = f"all images lie in one folder ({found[0]!r})" if found else "the images lie in no sub-folders"
        raise SpecimenError(
            f"no table of labels in {str(data_dir)!r}, and {seen}. Add labels.csv with the columns `file` and "
            f"`{target}`, or one sub-folder a class."
        )
    records = pd.DataFrame(rows, columns=["file", target, "split"])
    if depth:
        records["split"] = records["split"].str.lower().replace({"valid": "val", "validation": "val"})
    else:
        records = records.drop(columns="split")
    return records, [f"No table of labels: the {len(found)} sub-folders are the {target}."]


def _from_table(
    data_dir: Path, table: Table, name: str, images: list[str], target: str, missing_images: str
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
        notes.append(
            f"{unnamed.sum():,} rows of {name} name no image and were left out: row {some(lines[unnamed])}."
        )
        frame, lines = frame[~unnamed].reset_index(drop=True), lines[~unnamed]
    frame["file"], absent = _matched(data_dir, frame["file"], lines, images, name)
    if absent:
        rows = sorted(absent)
        summary = f"{len(rows):,} of {len(frame):,} files are missing ({len(rows) / len(frame):.1%})."
        listed = "\n".join(absent[row] for row in rows[:SHOWN])
        more = f"\n... and {len(rows) - SHOWN:,} more." if len(rows) > SHOWN else ""
        if missing_images == "error":
            raise SpecimenError(
                f'{listed}{more}\n{summary} Fix the names, or pass `missing_images="skip"` to go on without them.'
            )
        if len(rows) == len(frame):
            raise SpecimenError(
                f"{listed}{more}\nNone of the files in {name} is there: nothing is left to skip to."
            )
        notes.append(f"{summary} Their rows were skipped: row {some(lines[rows])}.")
        kept = np.setdiff1d(np.arange(len(frame)), rows)
        frame, lines = frame.iloc[kept].reset_index(drop=True), lines[kept]
    frame = _without_repeats(frame, lines, name, target, notes)
    for column in frame.columns[1:]:
        if column not in NUMERIC:
            frame[column] = frame[column].mask(missing(frame[column]))
        else:
            frame[column], strange = numbers(frame[column])
            if strange:
                notes.append(
                    f"column {column!r}: {len(strange)} values are no numbers and count as missing: {some(strange)}."
                )
    return frame, notes


def _matched(
    data_dir: Path, wanted: pd.Series, lines: np.ndarray, images: list[str], table: str
) -> tuple[list[str], dict[int, str]]:
    """The image of each row, and row -> sentence for those that are not there.

    A name is a path from the folder, or the last part of one where that is the only such image.
    """
    there = set(images)
    by_name: dict[str, list[str]] = {}
    by_folded: dict[str, str] = {}
    for image in images:
        by_name.setdefault(PurePosixPath(image).name, []).append(image)
        by_folded.setdefault(image.casefold(), image)
        by_folded.setdefault(PurePosixPath(image).name.casefold(), image)
    root = data_dir.resolve().as_posix().rstrip("/") + "/"

    matched, absent = [], {}
    for row, name in enumerate(wanted):
        path = str(name).strip().replace("\\", "/").removeprefix(root)
        path = PurePosixPath(path).as_posix()
        same_name = by_name.get(path, [])
        if path in there:
            matched.append(path)
        elif len(same_name) == 1:
            matched.append(same_name[0])
        else:
            matched.append(path)
            other = by_folded.get(path.casefold())
            if len(same_name) > 1:
                why = f"could be {' or '.join(map(repr, same_name[:SHOWN]))}: write the path"
            elif other is not None:
                why = f"is not there, but {other!r} is"
            else:
                why = "is not there"
            absent[row] = f"{table}, row {lines[row]}: {name!r} {why}."
    return matched, absent


def _without_repeats(
    frame: pd.DataFrame, lines: np.ndarray, name: str, target: str, notes: list[str]
) -> pd.DataFrame:
    """One row an image: the first of equal ones.

    Raises:
        SpecimenError: one image has two labels.
    """
    repeated = frame.duplicated("file").to_numpy()
    if not repeated.any():
        return frame
    first = frame.drop_duplicates("file").set_index("file")[target]
    first_line = dict(zip(frame["file"][~repeated], lines[~repeated], strict=True))
    quarrels = [row for row in np.flatnonzero(repeated) if frame[target][row] != first[frame["file"][row]]]
    if quarrels:
        listed = "\n".join(
            f"{name}, rows {first_line[file]} and {lines[row]}: {file!r} is {first[file]!r} and {frame[target][row]!r}."
            for row in quarrels[:SHOWN]
            for file in [frame["file"][row]]
        )
        raise SpecimenError(f"{listed}\n{len(quarrels):,} images have two labels. Keep one row an image.")
    notes.append(
        f"{repeated.sum():,} rows of {name} repeat an image; the first of each was kept: row {some(lines[repeated])}."
    )
    return frame[~repeated].reset_index(drop=True)
