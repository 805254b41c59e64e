"""Columns of a large table kept as Arrow files: one file a column, memory-mapped when opened, never parsed again.

A table's folder in the cache is named after the file and its identity (size, time, header, version of this layout). In
it `columns.json` holds the table's checksum and the CRC of every column file, and is written last: a file that is not
as it says is not used, and made again. Every file takes its place whole (`files.replacing`), so that two processes
building the same cache only do the same work twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from bionas.errors import BionasError
from bionas.system import files

VERSION = 1
"""Of the layout below and of what `columnar` puts into it; a cache of another version is made again."""

LISTING = "columns.json"


class ColumnCache:
    """The kept columns of one table.

    Args:
        cache_dir: where caches are kept.
        table: the CSV.
        size, mtime_ns: the CSV's.
        header: its columns.

    Attributes:
        checksum, rows, notes: of the table as it was read; "", 0 and () where nothing is kept yet.
    """

    def __init__(
        self, cache_dir: str | os.PathLike, table: Path, size: int, mtime_ns: int, header: Sequence[str]
    ):
        self._identity = {
            "version": VERSION,
            "table": str(table.resolve()),
            "size": size,
            "mtime_ns": mtime_ns,
            "header": list(header),
        }
        digest = hashlib.sha256(json.dumps(self._identity).encode()).hexdigest()[:12]
        self.folder = Path(cache_dir) / f"{table.name}-{digest}"
        self._listing = self._read_listing()

    @property
    def checksum(self) -> str:
        return self._listing.get("checksum", "")

    @property
    def rows(self) -> int:
        return self._listing.get("rows", 0)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._listing.get("notes", ()))

    def open(self, names: Iterable[str]) -> dict[str, pa.ChunkedArray]:
        """Those of the columns that are kept and whole, memory-mapped."""
        found = {name: self._opened(name) for name in names}
        return {name: column for name, column in found.items() if column is not None}

    @contextlib.contextmanager
    def writing(self, name: str, kind: pa.DataType) -> Iterator[pa.RecordBatchWriter]:
        """A writer of record batches with one column; on a clean exit the column is kept (until `list`, unlisted).

        Raises:
            BionasError, OSError: no space, or the folder cannot be written.
        """
        with files.replacing(self._path(name)) as file:
            summed = _Summed(file)
            with pa.ipc.new_file(pa.PythonFile(summed, "w"), pa.schema([pa.field(name, kind)])) as writer:
                yield writer
        self._listing.setdefault("columns", {})[name] = summed.entry

    def keep(self, name: str, column: pa.Array) -> None:
        """As `writing`, for a column that is in memory."""
        with self.writing(name, column.type) as writer:
            writer.write_batch(pa.record_batch([column], names=[name]))

    def list(self, checksum: str, rows: int, notes: Sequence[str]) -> None:
        """Makes what was written since findable, along with what another process listed meanwhile. What killed processes
        left half-written is removed, and caches of the table as it was before it changed."""
        others = self._read_listing()
        kept = others.get("columns", {}) if others.get("checksum") == checksum else {}
        self._listing = {
            **self._identity,
            "checksum": checksum,
            "rows": rows,
            "notes": list(notes),
            "columns": kept | self._listing.get("columns", {}),
        }
        files.write_json(self.folder / LISTING, self._listing)
        files.sweep(self.folder)
        for folder in self.folder.parent.glob(f"{self.folder.name[:-13]}-*"):
            old = _json(folder / LISTING)
            same_table = old.get("table") == self._identity["table"]
            if same_table and any(
                old.get(key) != self._identity[key] for key in ("version", "size", "mtime_ns")
            ):
                shutil.rmtree(folder, ignore_errors=True)

    def forget(self) -> None:
        """Nothing kept so far counts: the table's content is another, though its size and time are not."""
        self._listing = {}

    def _read_listing(self) -> dict:
        listing = _json(self.folder / LISTING)
        return listing if all(listing.get(key) == value for key, value in self._identity.items()) else {}

    def _path(self, name: str) -> Path:
        return self.folder / f"{urllib.parse.quote(name, safe=' ')}.arrow"

    def _opened(self, name: str) -> pa.ChunkedArray | None:
        entry = self._listing.get("columns", {}).get(name)
        if entry is None:
            return None
        path, summed = self._path(name), _Summed()
        try:
            with path.open(
                "rb"
            ) as file:  # read, not mapped: what is only summed does not stay in this process
                while part := file.read(1 << 20):
                    summed.write(part)
            if summed.entry != entry:
                return None
            column = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0)
        except (OSError, pa.ArrowInvalid):
            return None
        return column if len(column) == self.rows else None


class _Summed:
    """A file whose bytes are counted and summed on their way to it; closing it is left to who opened it."""

    closed = False

    def __init__(self, file: BinaryIO | None = None):
        self.file, self.bytes, self.crc = file, 0, 0

    @property
    def entry(self) -> dict[str, int]:
        """What the listing says of the file."""
        return {"bytes": self.bytes, "crc32": self.crc}

    def write(self, content) -> int:
        self.crc = zlib.crc32(content, self.crc)
        self.bytes += len(content)
        return self.file.write(content) if self.file else len(content)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self.file.flush()

    close = flush


def _json(path: Path) -> Mapping:
    """The object in a JSON file, {} where there is none to be read."""
    try:
        content = files.read_json(path)
    except (BionasError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
