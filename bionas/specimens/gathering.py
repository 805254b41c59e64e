"""What the sources of a download share: finding the folder, one record per id, and pairing records with photographs.

Whatever is missing, damaged or left over is a note or an error.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from bionas.errors import SpecimenError
from bionas.specimens.archives import Archive
from bionas.specimens.barcodes import barcode_keys
from bionas.specimens.csv_file import CsvFile
from bionas.specimens.folders import skip_remedy
from bionas.specimens.images import Images
from bionas.specimens.notes import SHOWN, LeftOut, some
from bionas.specimens.photographs import FolderPhotographs, Photographs, ZippedPhotographs, locate
from bionas.specimens.schema import NAMIBIA, has_country_codes
from bionas.specimens.sources import Reading
from bionas.specimens.streaming import open_images
from bionas.system.files import replacing

IDENTITIES = ("processid", "sampleid", "dna_barcode", "image_file")
"""Columns that identify a record: words for "not known" are not looked for in them."""


class NamedRecords(NamedTuple):
    """Records, the column that identifies one, and the name of their table for messages."""

    frame: pd.DataFrame
    id: str
    table: str


class Paired(NamedTuple):
    """Records with one image each, and notes on what was left out."""

    records: pd.DataFrame
    images: Images
    notes: tuple[str, ...]


def nearest(name: str, known: Iterable[object]) -> str:
    """ " Did you mean 'x'?" for the known name most like this one; "" where none is."""
    near = difflib.get_close_matches(name, list(map(str, known)), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def existing(data_dir: Path | None, source: str, holds: str, file_too: bool = False) -> Path:
    """The folder (or, with `file_too`, the file) that `data_dir` names.

    Raises:
        SpecimenError: none was given, it is not there (the nearest name beside it is suggested), or it is a file.
    """
    if data_dir is None:
        raise SpecimenError(f"source={source!r} needs data_dir=...: {holds}.")
    data_dir = Path(data_dir).expanduser()
    if data_dir.is_dir() or (file_too and data_dir.is_file()):
        return data_dir
    if data_dir.exists():
        raise SpecimenError(f"data_dir={str(data_dir)!r} is a file; give {holds}.")
    beside = data_dir.parent.iterdir() if data_dir.parent.is_dir() else ()
    hint = nearest(data_dir.name, sorted(path.name for path in beside if file_too or path.is_dir()))
    raise SpecimenError(f"{str(data_dir)!r} is not there (looked from {Path.cwd()}).{hint}")


def home_of(data_dir: Path, folders: Sequence[str], holds: Sequence[str]) -> Path:
    """The folder of a download, called one of `folders`, which lies in `data_dir` or is `data_dir` itself.

    A folder of another name is accepted when it holds one of `holds`. Where there is none, the path of the first of
    `folders` is returned; the caller reports what is missing in it.

    Raises:
        SpecimenError: `data_dir` is another level of the download; the message names the right one.
    """
    inside = [data_dir / name for name in folders if (data_dir / name).is_dir()]
    if inside:
        return inside[0]
    if any((data_dir / name).exists() for name in holds):
        return data_dir.resolve()
    above = [path for path in data_dir.resolve().parents if path.name in folders]
    below = sorted(path for path in data_dir.iterdir() if any((path / name).is_dir() for name in folders))
    if above or below:
        meant = above[0].parent if above else below[0]
        raise SpecimenError(
            f"there is no {folders[0]}/ in {str(data_dir)!r}. Did you mean data_dir={str(meant)!r}? "
            f"It is the folder that holds {folders[0]}/."
        )
    return data_dir / folders[0]


def photographs_left(photographs: Photographs, archives: Sequence[Path], cache_dir: Path) -> tuple[str, ...]:
    """A note on photographs that belong to no record, or none where all do.

    Counted where they come from one place; from an extracted tree and archives together there is no note.
    """
    if isinstance(photographs, FolderPhotographs):
        there = _files_in(photographs.folder)
    elif isinstance(photographs, ZippedPhotographs):
        indexes = [Archive(path, cache_dir) for path in archives]
        there = sum(int((index.entries(np.arange(len(index)))["size"] > 0).sum()) for index in indexes)
    else:
        return ()
    left = there - int(photographs.present.sum())
    return (f"{left:,} photographs have no record and were left out.",) if left > 0 else ()


def _files_in(folder: Path) -> int:
    """Files below a folder, hidden ones not counted."""
    files, folders = 0, [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    files += not entry.name.startswith(".")
    return files


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


def without_repeats(records: NamedRecords) -> tuple[pd.DataFrame, list[str]]:
    """One record per id, and a note where equal ones were dropped.

    Raises:
        SpecimenError: records of one id differ; the message names ids and columns.
    """
    frame, name, table = records
    repeated = frame.duplicated(name, keep=False).to_numpy()
    if not repeated.any():
        return frame, []
    rows = frame[repeated]
    equal = rows.astype(object).duplicated(keep="first") | ~rows.duplicated(name, keep="first")
    if not equal.all():
        differing = rows[rows[name].isin(rows.loc[~equal, name])]
        listed = []
        for identity, group in list(differing.groupby(name, sort=False, observed=True))[:SHOWN]:
            differ = [column for column in group if group[column].astype(object).nunique(dropna=False) > 1]
            listed.append(f"{identity!r} ({len(group)} records, differing in {some(differ, 3)})")
        n = differing[name].nunique()
        raise SpecimenError(
            f"{table}: {n:,} {name}s stand for more than one record: {', '.join(listed)}"
            f"{f' and {n - len(listed):,} more' if n > len(listed) else ''}. Keep one record per {name}: which of them "
            "belongs to the photograph cannot be told."
        )
    again = frame.duplicated(name, keep="first").to_numpy()
    note = f"{again.sum():,} records of {table} are repeated; the first of each was kept: {some(frame[name][again])}."
    return frame[~again].reset_index(drop=True), [LeftOut(note, again.sum())]


def barcodes_of(table: Path, cache_dir: Path, renamed: Mapping[str, str] | None = None) -> np.ndarray | None:
    """uint64 (rows of the table,) of `barcode_keys`; None where the table has no column `dna_barcode`.

    Read off the table once, a block at a time, and kept in the cache folder by the table's name, size and time.
    """
    file = CsvFile(table, renamed)
    if "dna_barcode" not in file.header:
        return None
    kept = cache_dir / f"{table.stem}-{file.size:x}-{file.mtime_ns:x}.barcodes.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        return np.load(kept, allow_pickle=False)
    keys = file.parse(
        ["dna_barcode"],
        (),
        lambda batches: np.concatenate([barcode_keys(batch.column(0)) for batch in batches]),
    )
    with replacing(kept) as stream:
        np.save(stream, keys)
    return keys


class Blanked(NamedTuple):
    """The words that count as "not known" in a column, and how many values were one of them."""

    words: list[str]
    values: int


def unknown_blanked(frame: pd.DataFrame, words: Iterable[str]) -> tuple[pd.DataFrame, dict[str, Blanked]]:
    """The records with every text among `words` (lower case) missing; column -> what was found in it."""
    words, blanked, changed = frozenset(words), {}, {}
    for name, column in frame.items():
        if name in IDENTITIES or pd.api.types.is_numeric_dtype(column.dtype):
            continue
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        values = column.cat.categories if categorical else pd.unique(column.dropna())
        found = [value for value in values if str(value).strip().casefold() in words]
        if found:
            there = column.isin(found)
            blanked[str(name)] = Blanked(found, int(there.sum()))
            changed[name] = column.cat.remove_categories(found) if categorical else column.mask(there)
    return frame.assign(**changed), blanked


def country_codes_kept(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The records with `NA` as Namibia where the column `country` holds two-letter codes, and a note."""
    if "country" not in frame:
        return frame, []
    column = frame["country"]
    values = (
        column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else pd.unique(column.dropna())
    )
    if "NA" not in values or not has_country_codes(values):
        return frame, []
    n = int((column == "NA").sum())
    namibia = column.astype(object).mask((column == "NA").to_numpy(), NAMIBIA)
    note = f"column 'country' holds two-letter codes: {n:,} values NA were read as Namibia."
    return frame.assign(country=namibia.astype(column.dtype if column.dtype == object else "category")), [
        note
    ]


def paired(
    records: NamedRecords, photographs: Photographs, reading: Reading, remedy: str, fit: str = "stretch"
) -> Paired:
    """Each record with its photograph decoded; photograph i belongs to row i.

    Args:
        remedy: what brings missing photographs, as a clause without a full stop.
        fit: where `reading` names none.

    Raises:
        SpecimenError: photographs are missing, all of them are, or too many are damaged.
    """
    frame, name, table = records
    notes: list[str] = []
    absent = np.flatnonzero(~photographs.present)
    if len(absent):
        listed = some(f"{photographs.name(i)} ({name} {frame[name].iloc[i]})" for i in absent[:SHOWN])
        more = f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
        summary = (
            f"{len(absent):,} of {len(frame):,} photographs are missing ({len(absent) / len(frame):.1%})"
        )
        if len(absent) == len(frame):
            raise SpecimenError(
                f"none of the {len(frame):,} photographs of {table} is there; the first would be "
                f"{photographs.name(0)!r}. {_sentence(remedy)}; `images=False` opens the records alone."
            )
        if reading.missing_images == "error":
            raise SpecimenError(
                f"{summary}: {listed}{more}. {_sentence(remedy)}; {skip_remedy()} continues without their records."
            )
        notes.append(LeftOut(f"{summary}; their records were skipped: {listed}{more}.", len(absent)))
        there = np.flatnonzero(photographs.present)
        frame, photographs = frame.iloc[there].reset_index(drop=True), photographs.subset(there)
    found = decoded(frame, photographs, reading, "download them again", fit)
    return found._replace(notes=(*notes, *found.notes))


def decoded(
    frame: pd.DataFrame, photographs: Photographs, reading: Reading, remedy: str, fit: str = "stretch"
) -> Paired:
    """The records whose photograph can be read, with their images; photograph i belongs to row i.

    Args:
        remedy: what to do about damaged photographs, as a clause without a full stop.
        fit: where `reading` names none.

    Raises:
        SpecimenError: more than `reading.max_unreadable` are damaged.
        UnknownName: no such fit or image store.
    """
    store, unreadable = open_images(
        photographs,
        reading.image_size,
        reading.fit or fit,
        reading.cache_dir,
        reading.workers,
        reading.image_store,
        reading.max_unreadable,
    )
    if not unreadable:
        return Paired(frame, store, ())
    most = float(reading.max_unreadable)
    listed = some(f"{photographs.name(i)} ({why})" for i, why in sorted(unreadable.items()))
    share = len(unreadable) / len(frame)
    found = f"{len(unreadable):,} of {len(frame):,} photographs cannot be read ({share:.1%}): {listed}"
    if share > most:
        raise SpecimenError(
            f"{found}. More than max_unreadable={most:.1%} are damaged: {remedy}, or raise max_unreadable."
        )
    kept = np.setdiff1d(np.arange(len(frame)), list(unreadable))
    note = LeftOut(f"{found}. They were skipped.", len(unreadable))
    return Paired(frame.iloc[kept].reset_index(drop=True), store.subset(kept), (note,))


class Package(NamedTuple):
    """An image package of a BIOSCAN download.

    Args:
        home: the folder of the download.
        name: of the package.
        archives: its ZIPs that are there.
        others: the ZIPs of all packages, for messages.
        tree: its folder inside the ZIPs.
    """

    home: Path
    name: str
    archives: list[Path]
    others: list[Path]
    tree: str

    def paired(
        self,
        records: NamedRecords,
        members: pa.Array | pa.ChunkedArray,
        reading: Reading,
        fetch: str,
        count_left: bool = True,
    ) -> Paired:
        """The records with their photographs, which are called `members`, extracted or in the ZIPs.

        Args:
            fetch: the command that downloads the package, without its data folder.
            count_left: note how many photographs belong to no record.

        Raises:
            SpecimenError: the package is not there (the message says which are), or as `paired`.
        """
        remedy = f"`{fetch} --data-dir {self.home.parent}` downloads them"
        images = self.home / "images"
        if not self.archives and not (images / self.name).is_dir():
            folders = images.iterdir() if images.is_dir() else ()
            there = [*sorted(f.name for f in folders if f.is_dir()), *(path.name for path in self.others)]
            raise SpecimenError(
                f"no photographs of the package {self.name!r}: neither {images / self.name} nor a ZIP of it is there. "
                + (f"There is: {some(there)}. " if there else "")
                + f"{_sentence(remedy)}; `images=False` opens the records alone."
            )
        archives = list(map(str, self.archives))
        photographs = locate(self.home, archives, self.tree, members, reading.cache_dir)
        found = paired(records, photographs, reading, remedy)
        left = photographs_left(photographs, self.archives, reading.cache_dir) if count_left else ()
        return found._replace(notes=(*left, *found.notes))
