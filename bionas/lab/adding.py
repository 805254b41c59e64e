"""Photographs with reviewed labels, joined to those a model was trained on: what `bionas train --add` takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd

from bionas.errors import SpecimenError
from bionas.lab.answers import read_table
from bionas.lab.photographs import find
from bionas.specimens.tables import FILE_NAMES
from bionas.specimens.tables import read_table as read_labels
from bionas.system import files

FIRST, ADDED, TABLE = "first", "added", "labels.csv"
REJECTED = "rejected"
"""The review of a photograph that shows none of the classes: it is not trained on."""


def joined(
    photographs: str | os.PathLike, labels: str | None, add: str | os.PathLike, rank: str, work: Path
) -> Path:
    """A folder with links to two collections and one table of their labels.

    Args:
        photographs, labels, rank: of the first collection, as in `train`.
        add: the `labels.csv` of a review (columns file, `rank`, review), in the folder of its photographs; or that folder.
        work: the folder to make it in.

    Raises:
        SpecimenError: no table is there, or it adds no photograph.
    """
    first, table = Path(photographs), Path(add)
    table = table / TABLE if table.is_dir() else table
    reviewed = read_table(table, ["file", rank])
    if "review" in reviewed:
        reviewed = reviewed[reviewed["review"] != REJECTED]
    reviewed = reviewed[reviewed[rank] != ""]
    if reviewed.empty:
        raise SpecimenError(f"--add {add}: no row has a {rank} that can be trained on.")
    own = _labels(first, labels, rank)
    place = work / "joined"
    shutil.rmtree(place, ignore_errors=True)
    for name, folder in ((FIRST, first), (ADDED, table.parent)):
        _link(folder, place / name)
    own["file"], reviewed["file"] = FIRST + "/" + own["file"], ADDED + "/" + reviewed["file"]
    files.write_csv(place / TABLE, pd.concat([own, reviewed[["file", rank]]], ignore_index=True).fillna(""))
    return place


def _labels(folder: Path, labels: str | None, rank: str) -> pd.DataFrame:
    """The records of a folder: of its table, or with its sub-folders as the classes."""
    table = folder / (labels or TABLE)
    if labels or table.is_file():
        frame = read_labels(table).frame
        column = next((name for name in FILE_NAMES if name in frame), None)
        if column is None or rank not in frame:
            raise SpecimenError(
                f"{table} needs the columns file and {rank}; it has {', '.join(frame.columns)}."
            )
        return frame.rename(columns={column: "file"}).drop(columns="split", errors="ignore")
    names = [one.name for one in find(folder)]
    rows = [(name, name.split("/")[0]) for name in names if "/" in name]
    return pd.DataFrame(rows, columns=["file", rank])


def _link(folder: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:  # links need a right that Windows does not give to everybody
        shutil.copytree(folder, place)
