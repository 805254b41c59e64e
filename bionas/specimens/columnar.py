"""Metadata that fits in memory: the columns asked for of a table of millions of rows, written by a machine.

`read_columns` streams a CSV (`csv_stream`) once, keeps its columns as Arrow files (`column_cache`), and hands pandas
dictionary codes, float32 and Arrow-backed strings. What is kept is opened by memory map from then on: neither parsed nor
hashed again. A column that was not asked for before costs one more pass. Small tables made by hand, in whatever state
they are, belong to `tables`.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bionas.errors import BionasError, SpecimenError, UnknownName
from bionas.specimens.column_cache import ColumnCache
from bionas.specimens.csv_stream import HEADERS, CsvStream
from bionas.specimens.schema import COLUMNS, NUMERIC, missing

IDENTITY = "processid"
"""What names a record, and its photograph: no two rows may share it."""

HEAVY = "dna_barcode"
"""Read only where it is asked for; goes from the CSV to the cache without staying in memory."""

UNIQUE = (IDENTITY, "sampleid", HEAVY)
"""Text that is different in most rows: strings, not categories."""

WHOLE = ("inferred_ranks", "index_bioscan_1M_insect")
"""Whole numbers."""

EXACT_IN_FLOAT32 = 2**24


class Columns(NamedTuple):
    """`frame`: one row a record, index 0..N-1; `notes`: what was read with a reservation; `checksum`: MD5 of the file.

    Text of few values is Categorical (categories sorted, those without a row left out), text of many is Arrow-backed
    str, numbers are float32 (float64 where float32 would not hold a whole number of theirs), whole numbers are nullable
    integers. Missing is NaN or NA, in any of the spellings of `schema.MISSING_WORDS`.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    checksum: str


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
        required: columns that must be there besides; where `processid` is one of them, every row has its own.
        renamed: {header in the file: column}, for headers that are not known.

    Raises:
        UnknownName: no such split.
        SpecimenError: a column is missing (the nearest is named), a processid is missing or there twice, a row or a
            number cannot be read (`CsvStream` says which), no row is in the splits asked for.
    """
    wanted_splits = None if splits is None else split_names(splits)
    stream = CsvStream(path, renamed)
    asked = [HEADERS.get(name.lower(), name) for name in columns] if columns is not None else None
    shown = (
        list(dict.fromkeys(asked)) if asked is not None else [name for name in stream.header if name != HEAVY]
    )
    needed = list(dict.fromkeys([*shown, *required, *(["split"] if wanted_splits else [])]))
    _refuse_missing(needed, stream)

    cache = (
        ColumnCache(cache_dir, stream.path, stream.size, stream.mtime_ns, stream.header)
        if cache_dir
        else None
    )
    table = _table(stream, needed, cache, wanted_splits, distinct=IDENTITY in required)
    frame = {name: _pandas(table.columns.pop(name)) for name in shown}
    return Columns(pd.DataFrame(frame, copy=False), table.notes, table.checksum)


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


class _Table(NamedTuple):
    columns: dict[str, pa.ChunkedArray]
    notes: tuple[str, ...]
    checksum: str


def _refuse_missing(needed: Sequence[str], stream: CsvStream) -> None:
    absent = [name for name in needed if name not in stream.header]
    if not absent:
        return
    near = difflib.get_close_matches(absent[0], stream.header, n=1, cutoff=0.5)
    hint = f" Is it {near[0]!r}? Then pass renamed={{{near[0]!r}: {absent[0]!r}}}." if near else ""
    raise SpecimenError(
        f"{stream.path.name} has no column {' and no '.join(map(repr, absent))}.{hint} It has: {', '.join(stream.header)}."
    )


def _table(
    stream: CsvStream,
    needed: Sequence[str],
    cache: ColumnCache | None,
    splits: frozenset[str] | None,
    distinct: bool,
) -> _Table:
    """The rows in `splits` of the columns `needed`: from the cache what is there, the rest out of the CSV and into it."""
    kept = cache.open(needed) if cache else {}
    lacking = [name for name in needed if name not in kept]
    if not lacking:
        return _Table(_rows_in(splits, kept, stream.path), cache.notes, cache.checksum)
    spilling = cache is not None and HEAVY in lacking
    try:
        with cache.writing(HEAVY, pa.large_string()) if spilling else contextlib.nullcontext() as spill:
            read = _columns(stream, lacking, spill, splits)
            if distinct and IDENTITY in read:
                _refuse_shared(read[IDENTITY], stream)
    except SpecimenError:
        raise
    except (BionasError, OSError) as error:  # of the cache; what was read of the barcodes went with it
        return _uncached(stream, needed, splits, distinct, cache, error)
    if cache and cache.checksum not in ("", stream.checksum):
        cache.forget()  # another content, of the same size and time
        return _table(stream, needed, cache, splits, distinct)
    notes = stream.notes
    if cache and (error := _keep(cache, read, stream)):
        if spilling:
            return _uncached(stream, needed, splits, distinct, cache, error)
        notes = (*notes, _not_kept(cache, error))
    if spilling:
        read |= cache.open([HEAVY])
    filtered = {HEAVY: read.pop(HEAVY)} if splits and HEAVY in read and not spilling else {}
    return _Table(_rows_in(splits, kept | read, stream.path) | filtered, notes, stream.checksum)


def _uncached(stream, needed, splits, distinct, cache: ColumnCache, error: Exception) -> _Table:
    table = _table(stream, needed, None, splits, distinct)
    return table._replace(notes=(*table.notes, _not_kept(cache, error)))


def _columns(
    stream: CsvStream, names: Sequence[str], spill: pa.RecordBatchWriter | None, splits: frozenset[str] | None
) -> dict[str, pa.ChunkedArray]:
    """All rows of the columns `names`; barcodes go to `spill`, and without one are those of `splits`."""
    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    for block in stream.blocks({name: _type_in_csv(name) for name in names}):
        for name in names:
            column = _single(block.table.column(name))
            if name == HEAVY and spill:
                spill.write_batch(pa.record_batch([column], names=[name]))
            elif name == HEAVY and splits:
                parts[name].append(column.filter(_in_splits(_single(block.table.column("split")), splits)))
            else:
                parts[name].append(_narrow(column))
    return {
        name: _joined(name, parts.pop(name), stream.rows) for name in names if not (name == HEAVY and spill)
    }


def _type_in_csv(name: str) -> pa.DataType:
    if name in NUMERIC:
        return pa.float64()
    if name in WHOLE:
        return pa.int32()
    return pa.large_string() if name in UNIQUE else pa.dictionary(pa.int32(), pa.string())


def _narrow(column: pa.Array) -> pa.Array:
    """Floats as float32 with NaN for missing; float64 where one is too large to be a whole number in float32."""
    if column.type != pa.float64():
        return column
    values = column.to_numpy(zero_copy_only=False)
    return pa.array(values if np.any(np.abs(values) > EXACT_IN_FLOAT32) else values.astype(np.float32))


def _joined(name: str, parts: list[pa.Array], rows: int) -> pa.ChunkedArray:
    """The parts of a column as one, its text cleaned of blanks and of words for "not known"."""
    if pa.types.is_dictionary(parts[0].type):
        column = _categories(pa.chunked_array(parts).unify_dictionaries())
        if name not in COLUMNS and len(column.dictionary) > rows / 2:
            column = column.dictionary_decode()
        return pa.chunked_array([column])
    if name == HEAVY:
        return pa.chunked_array(parts)
    if name in UNIQUE:
        trimmed = pc.utf8_trim_whitespace(pa.chunked_array(parts))
        return pa.chunked_array(
            [_single(pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed))]
        )
    widest = pa.float64() if pa.float64() in {part.type for part in parts} else parts[0].type
    return pa.chunked_array([pa.concat_arrays([part.cast(widest) for part in parts])])


def _categories(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Sorted categories and the narrowest codes; each distinct text is looked at once."""
    texts = pd.Series(column.chunk(0).dictionary.to_pylist(), dtype=object).str.strip()
    known = ~missing(texts)
    categories = sorted(set(texts[known]))
    narrowest = next(kind for kind in (np.int8, np.int16, np.int32) if len(categories) <= np.iinfo(kind).max)
    position = dict(zip(categories, range(len(categories)), strict=True))
    code_of = np.array([position[text] if known[i] else -1 for i, text in enumerate(texts)] + [-1], narrowest)
    codes = np.concatenate([code_of[_codes(chunk, len(texts))] for chunk in column.chunks])
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=codes < 0), pa.array(categories, pa.large_string())
    )


def _refuse_shared(names: pa.ChunkedArray, stream: CsvStream) -> None:
    """Raises SpecimenError where a record has no name, or two have the same."""
    if names.null_count:
        rows = np.flatnonzero(names.is_null())[:3]
        lines = ", ".join(f"{line:,}" for line in stream.lines_at(rows))
        raise SpecimenError(
            f"{stream.path.name}: {names.null_count:,} records have no {IDENTITY} (line {lines}"
            f"{', ...' * (names.null_count > 3)}). Fill it in, or remove these lines."
        )
    if len(pc.unique(names)) == len(names):
        return
    counts = pc.value_counts(names)
    shared = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    shown = []
    for name in shared[:3]:
        rows = np.flatnonzero(pc.equal(names, name))[:4]
        shown.append(f"{name.as_py()!r} (lines {', '.join(f'{line:,}' for line in stream.lines_at(rows))})")
    raise SpecimenError(
        f"{stream.path.name}: {len(shared):,} values of {IDENTITY} are in more than one row: {', '.join(shown)}"
        f"{', ...' * (len(shared) > 3)}. A record is found by it: remove the rows that are there twice."
    )


def _keep(cache: ColumnCache, columns: Mapping[str, pa.ChunkedArray], stream: CsvStream) -> Exception | None:
    """Puts the columns into the cache as far as they go; what stood in the way, if anything did."""
    problem = None
    try:
        for name, column in columns.items():
            cache.keep(name, _single(column))
    except (BionasError, OSError) as error:
        problem = error
    try:
        cache.list(stream.checksum, stream.rows, stream.notes)
    except (BionasError, OSError) as error:
        problem = problem or error
    return problem


def _not_kept(cache: ColumnCache, error: Exception) -> str:
    reason = getattr(error.__cause__ or error, "strerror", None) or error
    return f"not all columns could be kept in {cache.folder.parent} ({reason}): the next reading parses the table again."


def _rows_in(
    splits: frozenset[str] | None, columns: dict[str, pa.ChunkedArray], path: Path
) -> dict[str, pa.ChunkedArray]:
    """The rows of `splits`; raises SpecimenError where there is none."""
    if splits is None:
        return columns
    split = _single(columns["split"])
    inside = _in_splits(split, splits)
    if not inside.true_count:
        counts = ", ".join(f"{v['values']} ({v['counts']:,})" for v in pc.value_counts(split).to_pylist())
        raise SpecimenError(
            f"{path.name}: no row is in {' or '.join(sorted(splits))}. Its column `split` holds: {counts}."
        )
    return {name: columns.pop(name).filter(inside) for name in list(columns)}


def _in_splits(column: pa.DictionaryArray, splits: frozenset[str]) -> pa.BooleanArray:
    names = [str(name).strip().replace("validation", "val") for name in column.dictionary.to_pylist()]
    inside = np.array([name in splits for name in names] + [False])
    return pa.array(inside[_codes(column, len(names))])


def _pandas(column: pa.ChunkedArray) -> object:
    """A column as pandas holds it; strings stay where they are, in memory or in the file they are mapped from."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        array = _single(column)
        whole = pd.Categorical.from_codes(
            _codes(array, -1), categories=_strings(pa.chunked_array([array.dictionary]))
        )
        return whole.remove_unused_categories()
    if pa.types.is_integer(kind):
        values = column.fill_null(0).to_numpy()
        return pd.arrays.IntegerArray(values.astype(np.int32), column.is_null().to_numpy().copy())
    return column.to_numpy().copy() if pa.types.is_floating(kind) else _strings(column)


def _strings(column: pa.ChunkedArray) -> pd.api.extensions.ExtensionArray:
    return pd.StringDtype("pyarrow", na_value=np.nan).__from_arrow__(column)


def _codes(column: pa.DictionaryArray, missing_as: int) -> np.ndarray:
    codes = column.indices
    return (
        (codes.cast(pa.int32()) if codes.null_count else codes)
        .fill_null(missing_as)
        .to_numpy(zero_copy_only=False)
    )


def _single(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
