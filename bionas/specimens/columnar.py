"""Metadata in columns: the columns asked for of a table of millions of rows, written by a machine.

`read_columns` parses a CSV once (`csv_file`), keeps its columns in a Parquet file (`column_cache`), and returns pandas
columns of dictionary codes, float32 and Arrow-backed strings. Later calls read the Parquet file. A column that was not
asked for before costs one more parse. Small tables made by hand are read by `tables`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bionas.errors import BionasError, SpecimenError, UnknownName
from bionas.specimens.column_cache import ColumnCache, StoredColumns, table_facts, write_columns
from bionas.specimens.csv_file import HEADERS, CsvFile, listed
from bionas.specimens.measurements import numbers
from bionas.specimens.notes import LeftOut
from bionas.specimens.schema import (
    COLUMNS,
    MISSING_WORDS,
    NAMIBIA,
    NUMERIC,
    cleaned,
    has_country_codes,
    is_missing,
)
from bionas.system.files import replacing

IDENTITY = "processid"
"""Identifies a record and its photograph: no two rows may share it."""

HEAVY = "dna_barcode"
"""Read only where it is asked for: nine tenths of the bytes of BIOSCAN-5M's table."""

UNIQUE = (IDENTITY, "sampleid", HEAVY)
"""Text that is different in most rows: strings, not categories."""

WHOLE = ("inferred_ranks", "index_bioscan_1M_insect")
"""Whole numbers."""

EXACT_IN_FLOAT32 = 2**24


class Columns(NamedTuple):
    """`frame`: one row per record, index 0..N-1; `notes`: what was read with a reservation; `checksum`: MD5 of the file;
    `rows`: of the table, including those that `notes` count as left out.

    Text of few values is Categorical (categories sorted, those without a row left out), text of many is Arrow-backed
    str, numbers are float32 (float64 where float32 would round a whole number), whole numbers are nullable integers.
    Missing is NaN or NA, in any of the spellings of `schema.MISSING_WORDS`.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    checksum: str
    rows: int


def read_columns(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    *,
    splits: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    required: Sequence[str] = (IDENTITY,),
    renamed: Mapping[str, str] | None = None,
) -> Columns:
    """Columns of a CSV or TSV, plain or gzipped.

    Args:
        path: the table; headers are matched without regard to case, and known aliases are understood.
        columns: which ones, in this order; None for all but the barcodes.
        splits: rows of these splits only: BIOSCAN's names, several joined by "+", or "all", "seen", "unseen".
        cache_dir: where columns are kept for the next time; None for nowhere.
        required: columns that must be there besides; where `processid` is one of them, it must differ in every row.
        renamed: {header in the file: column}, for headers that are not known.

    Raises:
        UnknownName: no such split.
        SpecimenError: a column is missing (the nearest is named), a processid is missing or there twice, a row or a
            number cannot be read (the line is named), no row is in the splits asked for.
    """
    wanted_splits = None if splits is None else split_names(splits)
    table = CsvFile(path, renamed)
    asked = [HEADERS.get(name.lower(), name) for name in columns] if columns is not None else None
    shown = (
        list(dict.fromkeys(asked)) if asked is not None else [name for name in table.header if name != HEAVY]
    )
    needed = list(dict.fromkeys([*shown, *required, *(["split"] if wanted_splits else [])]))
    _refuse_missing(needed, table)

    cache = ColumnCache(cache_dir, table) if cache_dir else None
    stored = cache.open(_is_text) if cache else None
    if stored is not None and set(needed) <= set(stored.names):
        try:
            return _read(table, stored, shown, wanted_splits, distinct=False)
        except (OSError, pa.ArrowInvalid):
            stored = None  # a damaged page: the table is parsed again
    kept = stored.names if stored is not None else []
    found, not_kept = _parsed(table, list(dict.fromkeys([*needed, *kept])), cache)
    try:
        result = _read(table, found, shown, wanted_splits, distinct=IDENTITY in required)
    except SpecimenError:
        if cache:
            cache.remove()
        raise
    return result._replace(notes=(*result.notes, *not_kept))


def split_names(splits: str) -> frozenset[str]:
    """BIOSCAN-5M's names of the splits that `splits` stands for, as `bioscan_dataset` understands it.

    Raises:
        UnknownName: a part between the "+" is no split.
    """
    from bioscan_dataset import bioscan5m as published  # imports torchvision, which takes a second

    known = (*published.VALID_METASPLITS, *published.VALID_SPLITS, *published.SPLIT_ALIASES)
    for name in splits.split("+"):
        if name.strip() not in known:
            raise UnknownName("split", name.strip(), known)
    return frozenset(published.explode_metasplit(splits))


def _refuse_missing(needed: Sequence[str], table: CsvFile) -> None:
    absent = [name for name in needed if name not in table.header]
    if not absent:
        return
    near = difflib.get_close_matches(absent[0], table.header, n=1, cutoff=0.5)
    hint = f" Is it {near[0]!r}? Then pass renamed={{{near[0]!r}: {absent[0]!r}}}." if near else ""
    raise SpecimenError(
        f"{table.path.name} has no column {' and no '.join(map(repr, absent))}.{hint} It has: {listed(table.header)}."
    )


def _parsed(table: CsvFile, names: list[str], cache: ColumnCache | None) -> tuple[StoredColumns, list[str]]:
    """The columns of the table, in the cache or, where that cannot be written, in memory; and a note on the latter."""
    numeric = [name for name in names if name in NUMERIC or name in WHOLE]
    texts = [name for name in names if _is_text(name)]
    not_kept = []
    if cache is not None:
        try:
            with replacing(cache.path) as file:

                def keep(batches: Iterator[pa.RecordBatch]) -> None:
                    file.seek(0)
                    file.truncate()
                    write_columns(file, batches, lambda: table_facts(table), texts)

                table.parse(names, numeric, keep)
            cache.remove_outdated()
            stored = cache.open(_is_text)
            if stored is not None:
                return stored, []
        except SpecimenError:
            raise
        except (BionasError, OSError) as error:
            reason = getattr(error.__cause__ or error, "strerror", None) or error
            not_kept = [
                f"the columns could not be kept in {cache.path.parent} ({reason}): the next reading parses the table again."
            ]

    def hold(batches: Iterator[pa.RecordBatch]) -> pa.Buffer:
        sink = pa.BufferOutputStream()
        write_columns(sink, batches, lambda: table_facts(table), texts)
        return sink.getvalue()

    return StoredColumns(pa.BufferReader(table.parse(names, numeric, hold)), _is_text), not_kept


def _is_text(name: str) -> bool:
    """Whether a column holds few distinct texts."""
    return name not in NUMERIC and name not in WHOLE and name not in UNIQUE


def _read(
    table: CsvFile,
    stored: StoredColumns,
    shown: Sequence[str],
    splits: frozenset[str] | None,
    distinct: bool,
) -> Columns:
    """The columns `shown` of the rows in `splits`; `distinct`: no two rows may share their processid."""
    if distinct:
        _refuse_shared(_names(stored.column(IDENTITY)), table)
    rows = stored.facts["rows"]
    notes = list(stored.facts["notes"])
    inside = None
    if splits is not None:
        inside = _in_splits(_categories(stored.column("split"), "split", []), splits, table.path)
        left = rows - inside.true_count
        if left:
            sentence = f"{left:,} of {rows:,} records are in other splits than {', '.join(sorted(splits))}."
            notes.append(LeftOut(sentence, left))
    frame = {}
    for name in shown:
        column = stored.column(name)
        if name == HEAVY:  # as it stands in the file, and never copied
            frame[name] = _strings(column if inside is None else column.filter(inside))
            continue
        if name in NUMERIC or name in WHOLE:
            array = _numeric(column, name, table, notes)
        elif name in UNIQUE:
            array = _names(column)
        else:
            array = _categories(column, name, notes)
        frame[name] = (
            _pandas(array, name, rows) if inside is None else _pandas(array.filter(inside), name, rows, True)
        )
    return Columns(pd.DataFrame(frame, copy=False), tuple(notes), stored.facts["checksum"], rows)


def _names(column: pa.ChunkedArray) -> pa.Array:
    """Texts without blanks around them, null where they mean "not known"."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    unknown = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(MISSING_WORDS), pa.large_string()))
    texts = pc.if_else(unknown, pa.scalar(None, texts.type), texts) if pc.any(unknown).as_py() else texts
    return _single(texts)


def _categories(column: pa.ChunkedArray, name: str, notes: list[str]) -> pa.DictionaryArray:
    """Texts as sorted categories and the narrowest codes; each distinct text is cleaned once."""
    column = column.unify_dictionaries()
    texts = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    meant = {text: cleaned(text) for text in texts}
    if name == "country" and "NA" in meant.values() and has_country_codes(meant.values()):
        meant = {text: NAMIBIA if own == "NA" else own for text, own in meant.items()}
        notes.append("column 'country' holds two-letter codes: the value NA was read as Namibia.")
    categories = sorted({own for own in meant.values() if not is_missing(own)})
    narrowest = next(kind for kind in (np.int8, np.int16, np.int32) if len(categories) <= np.iinfo(kind).max)
    position = dict(zip(categories, range(len(categories)), strict=True))
    code_of = np.array([*(position.get(meant[text], -1) for text in texts), -1], narrowest)
    codes = np.concatenate([code_of[_codes(chunk, len(texts))] for chunk in column.chunks])
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=codes < 0), pa.array(categories, pa.large_string())
    )


def _numeric(column: pa.ChunkedArray, name: str, table: CsvFile, notes: list[str]) -> pa.Array:
    """Numbers as float64, whole ones as int32; raises SpecimenError, naming the line, for what is none."""
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        wrong = _not_whole(values) if name in WHOLE else np.zeros(len(values), dtype=bool)
        shown = values
    else:
        shown = pd.Series(column.to_pylist(), dtype=object)
        read = numbers(shown, name)
        values, wrong = read.values.to_numpy(), shown.isin(read.wrong).to_numpy()
        notes += read.notes
        if name in WHOLE:
            wrong = wrong | _not_whole(values)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        more = f" ({wrong.sum():,} such values from here on)" if wrong.sum() > 1 else ""
        raise SpecimenError(
            f"{table.path.name}, line {table.lines_at([first])[0]:,}: {str(shown[first])!r} in column {name!r} is no "
            f"{'whole ' * (name in WHOLE)}number{more}. Correct it, or leave the field empty."
        )
    return pa.array(values, pa.int32() if name in WHOLE else pa.float64(), from_pandas=True, safe=False)


def _not_whole(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return ~np.isnan(values) & ((values % 1 != 0) | (np.abs(values) >= 2**31))


def _refuse_shared(names: pa.Array, table: CsvFile) -> None:
    """Raises SpecimenError where a record has no processid, or two have the same."""
    if names.null_count:
        rows = np.flatnonzero(names.is_null())[:3]
        lines = ", ".join(f"{line:,}" for line in table.lines_at(rows))
        raise SpecimenError(
            f"{table.path.name}: {names.null_count:,} records have no {IDENTITY} (line {lines}"
            f"{', ...' * (names.null_count > 3)}). Fill it in, or remove these lines."
        )
    if len(pc.unique(names)) == len(names):
        return
    counts = pc.value_counts(names)
    shared = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    shown = []
    for name in shared[:3]:
        rows = np.flatnonzero(pc.equal(names, name))[:4]
        shown.append(f"{name.as_py()!r} (lines {', '.join(f'{line:,}' for line in table.lines_at(rows))})")
    raise SpecimenError(
        f"{table.path.name}: {len(shared):,} values of {IDENTITY} are in more than one row: {', '.join(shown)}"
        f"{', ...' * (len(shared) > 3)}. A record is found by it: remove the rows that are there twice."
    )


def _in_splits(column: pa.DictionaryArray, splits: frozenset[str], path: Path) -> pa.BooleanArray:
    """Which rows are in `splits`; raises SpecimenError where none is."""
    names = [name.replace("validation", "val") for name in column.dictionary.to_pylist()]
    inside = pa.array(np.array([*(name in splits for name in names), False])[_codes(column, len(names))])
    if not inside.true_count:
        counts = ", ".join(f"{v['values']} ({v['counts']:,})" for v in pc.value_counts(column).to_pylist())
        raise SpecimenError(
            f"{path.name}: no row is in {' or '.join(sorted(splits))}. Its column `split` holds: {counts}."
        )
    return inside


def _pandas(array: pa.Array, name: str, rows: int, filtered: bool = False) -> object:
    """A column as pandas holds it; `filtered`: some categories may have lost all their rows."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if name not in COLUMNS and len(array.dictionary) > rows / 2:
            return _strings(array.dictionary_decode())
        whole = pd.Categorical.from_codes(_codes(array, -1), categories=_strings(array.dictionary))
        return whole.remove_unused_categories() if filtered else whole
    if pa.types.is_integer(kind):
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
        return pd.arrays.IntegerArray(
            values.astype(np.int32), array.is_null().to_numpy(zero_copy_only=False).copy()
        )
    if not pa.types.is_floating(kind):
        return _strings(array)
    values = array.to_numpy(zero_copy_only=False)  # null is NaN
    exact = np.any(np.abs(values) > EXACT_IN_FLOAT32)
    return values.copy() if exact else values.astype(np.float32)


def _strings(texts: pa.Array | pa.ChunkedArray) -> pd.api.extensions.ExtensionArray:
    return pd.StringDtype("pyarrow", na_value=np.nan).__from_arrow__(
        texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])
    )


def _codes(column: pa.DictionaryArray, missing_as: int) -> np.ndarray:
    codes = column.indices
    return (
        (codes.cast(pa.int32()) if codes.null_count else codes)
        .fill_null(missing_as)
        .to_numpy(zero_copy_only=False)
    )


def _single(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, copied only where it is in several."""
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
