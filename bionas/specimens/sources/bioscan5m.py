"""BIOSCAN-5M (the paper's first collection): 5,150,850 records and photographs, as they are downloaded.

The folder is the one that `bioscan_dataset` keeps and `bionas fetch bioscan5m` fills:

    <data_dir>/bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv
    <data_dir>/bioscan5m/images/<package>/<split>/<chunk>/<processid>.jpg        extracted, or
    <data_dir>/BIOSCAN_5M_<package>_{train,eval,pretrain.01,pretrain.02}.zip     as they come

Photographs are read from whichever of the two is there; a record's is found by its `split`, `chunk` and `processid`.
Only the splits asked for are read of the table (`columnar`), and of the barcodes only whether two are equal (`barcodes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.columnar import read_columns, split_names
from bionas.specimens.fetch.catalogue import ALL_PACKAGES
from bionas.specimens.gathering import (
    NamedRecords,
    Package,
    barcodes_of,
    existing,
    home_of,
)
from bionas.specimens.schema import coded
from bionas.specimens.sources import SOURCES, Collected, Reading

FOLDER = "bioscan5m"
METADATA = "metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
METADATA_ZIP = "BIOSCAN_5M_Insect_Dataset_metadata_MultiTypes.zip"
SLICE = 1 << 20  # names that are made at once
JPG = pa.scalar(".jpg", pa.large_string()), pa.scalar("", pa.large_string())  # and nothing between the parts
MIN_RECORDS = 500
FETCH = "bionas fetch bioscan5m"


@SOURCES.register("bioscan5m")
def bioscan5m(
    data_dir: Path | None,
    reading: Reading,
    *,
    target: str = "order",
    package: str = "cropped_256",
    splits: str | None = None,
    images: bool = True,
    renamed: Mapping[str, str] | None = None,
) -> Collected:
    """Records and photographs of a BIOSCAN-5M download.

    Args:
        data_dir: the folder that holds `bioscan5m/`, or that folder itself.
        reading: how photographs are decoded, and the folder of caches.
        target: the column that must be there.
        package: of photographs: one of `ALL_PACKAGES`.
        splits: BIOSCAN's names joined by `+` ("train+val+test", "pretrain", "seen", "unseen", "all"); None for all.
        images: False for the records alone.
        renamed: {header in the table: column}, for a table whose headers were changed.

    Raises:
        SpecimenError: files, columns or too many photographs are missing or damaged; the message says what to do.
        UnknownName: no such package or split.
    """
    if package not in ALL_PACKAGES:
        raise UnknownName("image package of BIOSCAN-5M", package, ALL_PACKAGES)
    splits = None if splits == "all" else splits
    wanted = None if splits is None else split_names(splits)
    home = home_of(
        existing(data_dir, "bioscan5m", f"the folder that holds {FOLDER}/"), (FOLDER,), ("metadata", "images")
    )
    table = _metadata_file(home)
    records, notes, _, rows = read_columns(
        table,
        splits=splits,
        cache_dir=reading.cache_dir,
        required=("processid", "split", "chunk", target),
        renamed=renamed,
    )
    keys = barcodes_of(table, reading.cache_dir, renamed)
    if keys is not None:
        records["dna_barcode"] = (
            keys if wanted is None else keys[_rows_of(table, wanted, reading.cache_dir, renamed)]
        )
    origin = f"BIOSCAN-5M ({splits})" if splits else "BIOSCAN-5M"
    if not images:
        return Collected(records, None, notes, default_min_records=MIN_RECORDS, origin=origin, rows=rows)
    tree = f"{FOLDER}/images/{package}"
    chosen = Package(home, package, _archives(home, package, wanted), _archives(home, "", None), tree)
    found = chosen.paired(
        NamedRecords(records, "processid", table.name),
        members(records, tree),
        reading,
        f"{FETCH} --package {package} --split {splits or 'all'}",
        count_left=wanted is None,
    )
    return Collected(found.records, found.images, (*notes, *found.notes), False, MIN_RECORDS, origin, rows)


def members(records: pd.DataFrame, tree: str) -> pa.ChunkedArray:
    """(N,) where each record's photograph is: `<tree>/<split>/<chunk>/<processid>.jpg`; no chunk, no folder for it."""
    split, chunk = coded(records["split"]), coded(records["chunk"])
    width = len(chunk.texts) + 1
    folders = [
        f"{tree}/{s}/{c}" for s in [*split.texts, "no_split"] for c in [*(f"{c}/" for c in chunk.texts), ""]
    ]
    folder = np.where(split.codes < 0, len(split.texts), split.codes) * width
    folder += np.where(chunk.codes < 0, len(chunk.texts), chunk.codes)
    names = pa.array(folders, pa.large_string())
    ids = records["processid"]

    def parts() -> Iterator[pa.Array]:
        for start in range(0, len(records), SLICE):
            here = slice(start, start + SLICE)
            own = pa.array(ids.iloc[here], from_pandas=True).cast(pa.large_string())
            yield pc.binary_join_element_wise(names.take(pa.array(folder[here])), own, *JPG)

    return pa.chunked_array(parts(), pa.large_string())


def _rows_of(
    table: Path, splits: frozenset[str], cache_dir: Path, renamed: Mapping[str, str] | None
) -> np.ndarray:
    """bool (rows of the table,), the rows that `read_columns` keeps of it."""
    split = read_columns(table, ("split",), cache_dir=cache_dir, renamed=renamed).frame["split"]
    return split.isin(splits).to_numpy()


def _metadata_file(home: Path) -> Path:
    name = Path(METADATA).name
    for path in (home / METADATA, home / "metadata" / name, home / name, home.parent / name):
        if path.is_file():
            return path
    fetch = f"`{FETCH} --metadata --extract --data-dir {home.parent}`"
    if any((folder / METADATA_ZIP).is_file() for folder in (home.parent, home)):
        raise SpecimenError(
            f"{home / METADATA} is not there. {METADATA_ZIP} is there, but not extracted: {fetch} does it."
        )
    raise SpecimenError(
        f"{home / METADATA} is not there: the photographs cannot be identified without it. {fetch} downloads it."
    )


def _archives(home: Path, package: str, splits: frozenset[str] | None) -> list[Path]:
    """The ZIPs of a package (of any with "") that are there and may hold photographs of these splits."""
    name = re.compile(rf"BIOSCAN_5M_{package or r'[a-z0-9_]+?'}(?:_(train|eval|pretrain))?(?:\.\d+)?\.zip")
    parts = (
        None if splits is None else {split if split in ("train", "pretrain") else "eval" for split in splits}
    )
    found = []
    for folder in dict.fromkeys((home.parent, home)):
        for path in sorted(folder.glob("BIOSCAN_5M_*.zip")):
            match = name.fullmatch(path.name)
            if (
                match
                and (parts is None or match[1] is None or match[1] in parts)
                and path.name != METADATA_ZIP
            ):
                found.append(path)
    return found
