"""BIOSCAN-1M: 1,128,313 records and photographs in another schema than BIOSCAN-5M's, as they are downloaded.

The folder is the one that `bioscan_dataset` keeps and `bionas fetch bioscan1m` fills:

    <data_dir>/bioscan1m/BIOSCAN_Insect_Dataset_metadata.tsv
    <data_dir>/bioscan1m/images/<package>/part<chunk_number>/<image_file>     extracted, or
    <data_dir>/BIOSCAN_1M_<package>.zip                                       as it comes, members below `bioscan/`

(bioscan-dataset before 1.2 kept the table beside the folder, and called the folder `bioscan`: read as well.) Columns
come under BIOSCAN-5M's names: `uri` is `dna_bin`, `name` is `taxon`; "not_classified" counts as missing. There are no
places and no measurements in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.columnar import read_columns
from bionas.specimens.fetch.catalogue import ALL_PACKAGES
from bionas.specimens.gathering import (
    NamedRecords,
    Package,
    barcodes_of,
    existing,
    home_of,
    unknown_blanked,
)
from bionas.specimens.sources import SOURCES, Collected, Reading

FOLDERS = ("bioscan1m", "bioscan")
PREFIX = "bioscan"  # of the members of the ZIPs; extracted, it becomes `bioscan1m`
METADATA = ("BIOSCAN_Insect_Dataset_metadata.tsv", "BIOSCAN_1M_Insect_Dataset_metadata.tsv")
PARTITIONINGS = (
    "large_insect_order",
    "medium_insect_order",
    "small_insect_order",
    "large_diptera_family",
    "medium_diptera_family",
    "small_diptera_family",
)
"""Columns that divide the records; "no_split" where an experiment does not use one. Each may become `split`."""

RENAMED = {"uri": "dna_bin", "name": "taxon", "nucraw": "dna_barcode"}
COLUMNS = (
    "processid",
    "sampleid",
    "taxon",
    "phylum",
    "class",
    "order",
    "family",
    "subfamily",
    "tribe",
    "genus",
    "species",
    "dna_bin",
    "image_file",
    "chunk_number",
)
UNKNOWN = ("not_classified",)
MIN_RECORDS = 500
FETCH = "bionas fetch bioscan1m"


@SOURCES.register("bioscan1m")
def bioscan1m(
    data_dir: Path | None,
    reading: Reading,
    *,
    target: str = "order",
    package: str = "cropped_256",
    partitioning: str = "large_insect_order",
    images: bool = True,
    renamed: Mapping[str, str] | None = None,
) -> Collected:
    """Records and photographs of a BIOSCAN-1M download.

    Args:
        data_dir: the folder that holds `bioscan1m/`, or that folder itself.
        reading: how photographs are decoded, and the folder of caches.
        target: the column that must be there.
        package: of photographs: one of `ALL_PACKAGES`.
        partitioning: which of `PARTITIONINGS` becomes the column `split` (train, val, test, no_split).
        images: False for the records alone.
        renamed: {header in the table: column}, for a table whose headers were changed.

    Raises:
        SpecimenError: files, columns or too many photographs are missing or damaged; the message says what to do.
        UnknownName: no such package or partitioning.
    """
    if package not in ALL_PACKAGES:
        raise UnknownName("image package of BIOSCAN-1M", package, ALL_PACKAGES)
    if partitioning not in PARTITIONINGS:
        raise UnknownName("partitioning of BIOSCAN-1M", partitioning, PARTITIONINGS)
    renamed = RENAMED | dict(renamed or {})
    home = home_of(
        existing(data_dir, "bioscan1m", f"the folder that holds {FOLDERS[0]}/"),
        FOLDERS,
        ("images", *METADATA),
    )
    table = _metadata_file(home)
    columns = dict.fromkeys((*COLUMNS, partitioning, target))
    found = read_columns(
        table,
        tuple(columns),
        cache_dir=reading.cache_dir,
        required=("processid", "image_file", "chunk_number", partitioning, target),
        renamed=renamed,
    )
    records, _ = unknown_blanked(found.frame, UNKNOWN)  # most names are "not_classified": nothing to note
    records["split"] = records[partitioning].cat.rename_categories({"validation": "val"})
    keys = barcodes_of(table, reading.cache_dir, renamed)
    if keys is not None:
        records["dna_barcode"] = keys
    notes = found.notes
    if not images:
        return Collected(
            records, None, notes, default_min_records=MIN_RECORDS, origin="BIOSCAN-1M", rows=found.rows
        )
    tree = f"{PREFIX}/images/{package}"
    others = [path for name in ALL_PACKAGES for path in _archives(home, name)]
    pairs = Package(home, package, _archives(home, package), others, tree).paired(
        NamedRecords(records, "processid", table.name),
        members(records, tree),
        reading,
        f"{FETCH} --package {package}",
    )
    notes += pairs.notes
    return Collected(pairs.records, pairs.images, notes, False, MIN_RECORDS, "BIOSCAN-1M", found.rows)


def members(records: pd.DataFrame, tree: str) -> pa.Array:
    """(N,) where each record's photograph is: `<tree>/part<chunk_number>/<image_file>`."""
    part = pa.array(records["chunk_number"].astype("Int64").astype(str), pa.large_string())
    name = pa.array(records["image_file"], from_pandas=True).cast(pa.large_string())
    start, slash, nothing = (pa.scalar(text, pa.large_string()) for text in (f"{tree}/part", "/", ""))
    return pc.binary_join_element_wise(start, part, slash, name, nothing)


def _metadata_file(home: Path) -> Path:
    for folder in (home, home.parent):
        for name in METADATA:
            if (folder / name).is_file():
                return folder / name
    raise SpecimenError(
        f"{home / METADATA[0]} is not there: the photographs cannot be identified without it. "
        f"`{FETCH} --metadata --data-dir {home.parent}` downloads it."
    )


def _archives(home: Path, package: str) -> list[Path]:
    places = [
        folder / f"{start}{package}.zip" for folder in (home.parent, home) for start in ("BIOSCAN_1M_", "")
    ]
    return [path for path in places if path.is_file()]
