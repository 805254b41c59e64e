"""The columns of a large table in one Parquet file with page checksums, read lazily, a column at a time.

The file is named after the table and a hash of its identity (path, size, time, header, version of this layout). Its
schema metadata hold the table's checksum, number of rows and notes. A damaged or foreign file is not used, and made
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from bionas.specimens.csv_file import CsvFile

VERSION = 2
"""Version of the layout and of its content; a cache of another version is made again."""

FACTS = b"bionas"
GROUP = 1 << 18
"""Rows of a row group: what is in memory while the file is written."""


class ColumnCache:
    """The kept columns of one table.

    Args:
        cache_dir: the folder of the cache.
        table: the CSV.
    """

    def __init__(self, cache_dir: str | os.PathLike, table: CsvFile):
        self._identity = _identity(table)
        digest = hashlib.sha256(json.dumps(self._identity).encode()).hexdigest()[:12]
        self.path = Path(cache_dir) / f"{table.path.name}-{digest}.parquet"
        self._stem = table.path.name

    def open(self, is_text: Callable[[str], bool]) -> StoredColumns | None:
        """The kept columns, None where there are none or the file is damaged or belongs to another table."""
        try:
            stored = StoredColumns(self.path, is_text)
        except (OSError, pa.ArrowInvalid, KeyError, ValueError):
            return None
        same = all(stored.facts.get(name) == value for name, value in self._identity.items())
        return stored if same else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def remove_outdated(self) -> None:
        """Removes caches of this table as it was before it changed."""
        for path in self.path.parent.glob(f"{self._stem}-*.parquet"):
            with contextlib.suppress(OSError, pa.ArrowInvalid, KeyError, ValueError):
                if path != self.path and read_facts(path).get("table") == self._identity["table"]:
                    path.unlink(missing_ok=True)


class StoredColumns:
    """The columns of a Parquet file written by `write_columns`.

    Args:
        source: a path, or a file in memory.
        is_text: whether a column holds few distinct texts: it is read as dictionary codes.

    Attributes:
        facts: the table's identity, checksum, number of rows and notes.
        names: the columns in the file.
    """

    def __init__(self, source: Path | pa.NativeFile, is_text: Callable[[str], bool]):
        self._source = source if isinstance(source, pa.NativeFile) else pa.memory_map(str(source))
        metadata = pq.read_metadata(self._source)
        self.facts: Mapping[str, Any] = _facts(metadata.metadata)
        self.names = metadata.schema.to_arrow_schema().names
        texts = [name for name in self.names if is_text(name)]
        self._file = pq.ParquetFile(
            self._source, metadata=metadata, read_dictionary=texts, page_checksum_verification=True
        )

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, one chunk per row group.

        Raises:
            OSError, pa.ArrowInvalid: a page is damaged.
        """
        return self._file.read([name], use_threads=False).column(0)


def write_columns(
    file: BinaryIO | pa.NativeFile,
    batches: Iterable[pa.RecordBatch],
    facts: Callable[[], Mapping[str, Any]],
    texts: Iterable[str],
) -> None:
    """Writes record batches as Parquet.

    Args:
        facts: returns the metadata; called after the last batch.
        texts: columns of few distinct texts, which are stored as dictionaries.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    with pq.ParquetWriter(
        file,
        first.schema,
        compression="lz4",
        use_dictionary=[name for name in first.schema.names if name in set(texts)],
        dictionary_pagesize_limit=64 << 20,
        write_page_checksum=True,
        write_statistics=False,
        store_schema=True,
    ) as writer:
        for group in _grouped(first, batches):
            writer.write_table(group, row_group_size=len(group))
        writer.add_key_value_metadata({FACTS: json.dumps(facts()).encode()})


def table_facts(table: CsvFile) -> dict[str, Any]:
    """What the file says of a table that has been parsed."""
    return _identity(table) | {"checksum": table.checksum, "rows": table.rows, "notes": list(table.notes)}


def _identity(table: CsvFile) -> dict[str, Any]:
    return {
        "version": VERSION,
        "table": str(table.path.resolve()),
        "size": table.size,
        "mtime_ns": table.mtime_ns,
        "header": table.header,
    }


def read_facts(path: Path) -> Mapping[str, Any]:
    return _facts(pq.read_metadata(path).metadata)


def _facts(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    return json.loads((metadata or {})[FACTS])


def _grouped(first: pa.RecordBatch, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    group, rows = [first], first.num_rows
    for batch in batches:
        if rows >= GROUP:
            yield pa.Table.from_batches(group)
            group, rows = [], 0
        group.append(batch)
        rows += batch.num_rows
    yield pa.Table.from_batches(group)
