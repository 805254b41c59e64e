"""Insect-1M (the paper's second collection): one JSON of records, photographs by link.

The file is one object of two lists. A record of `insect_records` has `id`, `image_url`, `description_ids` and a key per
rank (`Phylum`, `Class`, `Order`, ...); a rank that is not known says "No Taxon", and a group without a rank stands
under the key `No Taxon`. Names are written "Beetles (Coleoptera)" or "Coleoptera": both are read as Coleoptera.
`description_records` are texts about taxa; nothing here uses them.

`bionas fetch insects1m` downloads the photographs to `images/` beside the JSON, where this source looks for them. The
JSON is read record by record into one small code per rank and record, so that a million records take some tens of
megabytes (`streamed_json`).
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.fetch import insect_image_names
from bionas.specimens.gathering import NamedRecords, existing, nearest, paired, without_repeats
from bionas.specimens.notes import some
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.schema import RANKS, is_missing
from bionas.specimens.sources import SOURCES, Collected, Reading
from bionas.specimens.streamed_json import kind, stream_items

RECORDS, DESCRIPTIONS = "insect_records", "description_records"
NO_RANK = "No Taxon"
NO_NAMES = ("id", "image_url", "description_ids")  # keys that hold no name
MIN_RECORDS = 500
FETCH = "bionas fetch insects1m"


@SOURCES.register("insects1m")
def insects1m(
    data_dir: Path | None,
    reading: Reading,
    *,
    metadata: str | None = None,
    images: bool = True,
) -> Collected:
    """The records of an Insect-1M JSON and those of their photographs that were downloaded.

    Args:
        data_dir: the folder of the JSON and of `images/`, or the JSON itself.
        reading: how photographs are decoded, cropped to a square unless it says otherwise.
        metadata: name of the JSON in `data_dir`; None where it is the only one.
        images: False for the records alone.

    Raises:
        SpecimenError: the JSON is malformed (line and column), a key is missing (the nearest is named), or photographs
            are missing or damaged; the message says what to do.
    """
    data_dir = existing(data_dir, "insects1m", "the folder of the Insect-1M JSON", file_too=True)
    path = _metadata_file(data_dir, metadata)
    records, notes = read_insects1m(path, links=images and reading.missing_images == "error")
    origin, rows = "Insect-1M", len(records)
    records, repeats = without_repeats(NamedRecords(records, "processid", path.name))
    notes += repeats
    if not images:
        return Collected(
            records, None, tuple(notes), default_min_records=MIN_RECORDS, origin=origin, rows=rows
        )
    photographs = FolderPhotographs(path.parent, insect_image_names(path.parent, records["processid"]))
    remedy = f"`{FETCH} --records {path} --data-dir {path.parent}` downloads what is missing"
    found = paired(NamedRecords(records, "processid", path.name), photographs, reading, remedy, fit="crop")
    return Collected(found.records, found.images, (*notes, *found.notes), False, MIN_RECORDS, origin, rows)


def read_insects1m(path: Path, links: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """(records, notes) of an Insect-1M JSON: `processid` (the record's id as text) and one categorical column per rank.

    Args:
        links: refuse records without `image_url`.

    Raises:
        SpecimenError: as `insects1m`.
    """
    keys: dict[str, Any] = {}
    table, no_link = _Table(path.name), []
    for key, item in stream_items(path, lists=(RECORDS,)):
        keys.setdefault(key, item)
        if key == RECORDS and item != ():
            table.add(item)
            if links and is_missing(item.get("image_url")):
                no_link.append(item["id"])
    if RECORDS not in keys:
        held = ", ".join(map(repr, keys)) or "nothing"
        raise SpecimenError(
            f"{path.name} has no list {RECORDS!r}; it holds {held}.{nearest(RECORDS, keys)} Is it the JSON of Insect-1M?"
        )
    if not table.ids:
        raise SpecimenError(f"{path.name}: the list {RECORDS!r} is empty.")
    if no_link:
        raise SpecimenError(
            f"{path.name}: {len(no_link):,} of {len(table.ids):,} records have no 'image_url': id {some(no_link)}. "
            "Without it their photograph cannot be downloaded. Add the links, or pass "
            '`missing_images="skip"` to go on without these records.'
        )
    return table.frame(), table.notes()


class _Rank:
    """One rank of all records: `codes` (N,), -1 where not known, and the names that they stand for."""

    def __init__(self, name: str):
        self.name = name
        self.codes = array("i")
        self.names: dict[str, int] = {}  # name -> code
        self.spelt: dict[str, str] = {}  # "Beetles (Coleoptera)" -> "Coleoptera"
        self._of_text: dict[str, int] = {}  # text as written -> code

    def put(self, position: int, text: str) -> None:
        """The text of the record at `position`; those passed over since the last one do not have the rank."""
        while len(self.codes) < position:
            self.codes.append(-1)
        code = self._of_text.get(text)
        if code is None:
            code = self._of_text[text] = self._new(text)
        self.codes.append(code)

    def _new(self, text: str) -> int:
        if is_missing(text):
            return -1
        name = scientific(text, self.name)
        if name != text.strip():
            self.spelt[text] = name
        return self.names.setdefault(name, len(self.names))

    def categories(self, n: int) -> pd.Categorical:
        codes = np.full(n, -1, dtype=np.int32)
        codes[: len(self.codes)] = np.frombuffer(self.codes, dtype=np.int32)
        return pd.Categorical.from_codes(codes, categories=list(self.names))


class _Table:
    """Collects records one by one into one array of codes per rank."""

    def __init__(self, name: str):
        self.name = name
        self.ids: list[str] = []
        self.ranks: dict[str, _Rank] = {}
        self.unranked = 0
        self._of_key: dict[str, _Rank | None] = {}  # key as written -> its rank; None where it is none

    def add(self, record: Any) -> None:
        if not isinstance(record, dict):
            raise SpecimenError(
                f"{self.name}: entry {len(self.ids) + 1:,} of {RECORDS!r} is {kind(record)}, not a record {{...}}."
            )
        position = len(self.ids)
        self.ids.append(self._id(record))
        for key, value in record.items():
            rank = self._of_key[key] if key in self._of_key else self._new(key)
            if rank is None:
                self.unranked += key == NO_RANK
            elif isinstance(value, str):
                if len(rank.codes) > position:
                    raise SpecimenError(
                        f"{self.name}, record {self.ids[-1]}: the rank {rank.name!r} is there twice."
                    )
                rank.put(position, value)
            elif value is not None:
                raise SpecimenError(
                    f"{self.name}, record {self.ids[-1]}: {key!r} is {kind(value)}, expected a name."
                )

    def _new(self, key: str) -> _Rank | None:
        name = key.strip().lower()
        of_rank = key not in NO_NAMES and name != NO_RANK.lower()
        self._of_key[key] = self.ranks.setdefault(name, _Rank(name)) if of_rank else None
        return self._of_key[key]

    def _id(self, record: dict) -> str:
        number = record.get("id")
        if isinstance(number, (int, str)) and not isinstance(number, bool) and not is_missing(number):
            return str(number)
        where = f"{self.name}: entry {len(self.ids) + 1:,} of {RECORDS!r}"
        if "id" in record:
            raise SpecimenError(f"{where}: 'id' is {kind(number)}, expected a number that names the record.")
        raise SpecimenError(
            f"{where} has no 'id'; it has {', '.join(map(repr, record))}.{nearest('id', record)}"
        )

    def frame(self) -> pd.DataFrame:
        order = [rank for rank in RANKS if rank in self.ranks] + [
            rank for rank in self.ranks if rank not in RANKS
        ]
        ids = {"processid": pd.array(self.ids, dtype=pd.StringDtype("pyarrow", na_value=np.nan))}
        return pd.DataFrame(ids | {rank: self.ranks[rank].categories(len(self.ids)) for rank in order})

    def notes(self) -> list[str]:
        notes, spelt = [], [pair for rank in self.ranks.values() for pair in rank.spelt.items()]
        if spelt:
            text, name = spelt[0]
            notes.append(
                f"{len(spelt):,} names with a common name beside them are read by the scientific one: {text!r} as {name!r}."
            )
        if self.unranked:
            notes.append(
                f"{self.unranked:,} records name a group without a rank ({NO_RANK!r}); it is not used."
            )
        return notes


def scientific(text: str, rank: str) -> str:
    """The scientific name in "Beetles (Coleoptera)": what stands in brackets at the end and looks like one (one
    capitalised word; up to three words where the rank is species). Any other text is returned as it stands."""
    more = r"(?: [a-z-]+){0,2}" if rank in ("species", "subspecies") else ""
    found = re.fullmatch(rf".+\(([A-Z][a-z-]+{more})\)", text.strip())
    return found[1] if found else text.strip()


def _metadata_file(data_dir: Path, name: str | None) -> Path:
    if data_dir.is_file():
        return data_dir
    files = sorted(path.name for path in data_dir.glob("*.json"))
    if name is not None:
        if name not in files:
            raise SpecimenError(
                f"metadata={name!r} is not in {str(data_dir)!r}.{nearest(name, files)} "
                f"JSON files there: {', '.join(files) or 'none'}."
            )
        return data_dir / name
    if not files:
        raise SpecimenError(
            f"no JSON in {str(data_dir)!r}: Insect-1M's records are one file with the lists {RECORDS!r} and "
            f"{DESCRIPTIONS!r}, published by its authors. Put it there, then `{FETCH} --records FILE.json --data-dir "
            f"{data_dir}` downloads its photographs."
        )
    if len(files) > 1:
        raise SpecimenError(
            f"{len(files)} JSON files in {str(data_dir)!r}: {some(files)}. Say which one with metadata={files[0]!r}."
        )
    return data_dir / files[0]
