"""A large CSV read once, in blocks of whole rows: hashed, unpacked, checked and parsed on the way by pyarrow.

`CsvStream` knows the header; its `blocks` gives one Arrow table a block, in the order of the file, while several are
parsed at once. One row is one line unless a quoted field holds a line break. What pyarrow refuses is read again by
Python's csv module, which says which line and which field it was: that costs time only where something is wrong.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from bionas.errors import SpecimenError
from bionas.specimens.schema import ALIASES, MISSING_WORDS
from bionas.specimens.tables import as_text, encoding_note, numbers, refuse_other_formats, schema_names
from bionas.system.progress import progress

BLOCK = 8 << 20
"""Bytes parsed at a time; a few blocks are in memory at once."""

HEADERS = ALIASES | {"country_or_geography": "country"}
"""Other spellings of a header in tables made by machines (the second is BOLD's)."""

NULL_WORDS = sorted(
    {spelt for w in MISSING_WORDS for spelt in (w, w.upper(), w.title(), w.capitalize(), "NaN")}
)


class Block(NamedTuple):
    """Rows of the file. `lines`: the line each row is on."""

    table: pa.Table
    lines: Sequence[int]


class CsvStream:
    """A CSV or TSV, plain or gzipped, whose header has been read.

    Args:
        path: the file.
        renamed: {header in the file: name to use}, for headers that `schema` does not know.

    Attributes:
        header: names of the columns as `schema` spells them.
        size, mtime_ns: of the file as it was opened.
        checksum: MD5 of the file's bytes as they lie on the disk, as BIOSCAN publishes it.
        rows: how many there are.
        notes: what was read with a reservation. These three are known once `blocks` has ended.

    Raises:
        SpecimenError: the file is missing, a folder, empty, an Excel workbook, a ZIP, UTF-16; or two columns have one name.
    """

    def __init__(self, path: str | os.PathLike, renamed: Mapping[str, str] | None = None):
        self.path = Path(path)
        self.checksum, self.rows = "", 0
        self.notes: tuple[str, ...] = ()
        with self._opened() as raw:
            status = os.fstat(raw.fileno())
            self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
            head = raw.read(4)
            refuse_other_formats(self.path, head)
            raw.seek(0)
            self._packed = head.startswith(b"\x1f\x8b")
            line = self._first_line(gzip.GzipFile(fileobj=raw) if self._packed else raw)
        text = as_text(line)[0].strip("\r\n")
        self.delimiter = max("\t,;", key=text.count)
        aliases = HEADERS | {old.lower(): new for old, new in (renamed or {}).items()}
        cells = next(csv.reader([text], delimiter=self.delimiter))
        self.header = schema_names([cell.strip() for cell in cells], self.path.name, aliases)

    def blocks(self, types: Mapping[str, pa.DataType]) -> Iterator[Block]:
        """Every row of the file in order, the columns in `types` alone, each block parsed in a thread of its own.

        Args:
            types: string, a dictionary of strings, float64, or int32 for whole numbers.

        Raises:
            SpecimenError: a row with another number of fields than the header, a value that is no number where one is
                needed, a file cut short or changed while it is read; the message names line and column.
        """
        strange: list[int] = []
        rows, notes = 0, ()
        with ThreadPoolExecutor(workers := min(os.cpu_count() or 1, 4)) as pool:
            parsed = _in_order(pool, workers + 1, self._tasks(dict(types)))
            while item := self._next(parsed):
                block, found = item
                strange += found
                rows += block.table.num_rows
                yield block
        if rows == 0:
            raise SpecimenError(f"{self.path} has a header ({_listed(self.header)}) but no rows.")
        if strange:
            notes += (encoding_note(self.path.name, strange, self._lines_read),)
        if not self._ends_with_newline:
            cut = (
                f"{self.path.name} does not end with a line break: if it was cut short, its last row (line "
                f"{self._lines_read:,}) is not whole. Compare its size or checksum with the published ones."
            )
            notes += (cut,)
        self.rows, self.notes = rows, notes

    def lines_at(self, rows: Sequence[int]) -> list[int]:
        """The lines on which these rows are (0 is the first below the header): one more pass, for messages."""
        lines, passed = [], 0
        for block in self.blocks({self.header[0]: pa.large_string()}):
            lines += [block.lines[row - passed] for row in rows if 0 <= row - passed < len(block.lines)]
            passed += len(block.lines)
        return lines

    def _opened(self):
        try:
            return self.path.open("rb", buffering=0)
        except FileNotFoundError:
            raise SpecimenError(f"{self.path} is not there.") from None
        except IsADirectoryError:
            tables = sorted(p.name for p in self.path.iterdir() if {".csv", ".tsv"} & set(p.suffixes))
            inside = f" Name the table in it: {_listed(tables)}." if tables else " There is no CSV in it."
            raise SpecimenError(f"{self.path} is a folder, not a table.{inside}") from None
        except OSError as error:
            raise SpecimenError(f"{self.path} cannot be read ({error.strerror}).") from None

    def _first_line(self, file: io.RawIOBase | gzip.GzipFile) -> bytes:
        """The header, and where it is: `_skipped` bytes and `_header_lines` lines come before the first row."""
        head = b""
        while (
            b"\n" not in head.lstrip(b"\xef\xbb\xbf\r\n")
            and len(head) < BLOCK
            and (more := self._read(file, 1 << 16))
        ):
            head += more
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise SpecimenError(f"{self.path} is UTF-16. Save it as UTF-8.")
        text = head.lstrip(b"\xef\xbb\xbf\r\n")
        if not text.strip():
            raise SpecimenError(
                f"{self.path} is empty. It needs a header ({_listed(['processid', 'order'])}) and rows."
            )
        start = len(head) - len(text)
        line = text.split(b"\n", 1)[0]
        self._skipped = start + len(line) + (len(line) < len(text))
        self._header_lines = head[:start].count(b"\n") + 1
        return line

    def _next(self, parsed: Iterator[tuple[Block, list[int]]]) -> tuple[Block, list[int]] | None:
        try:
            return next(parsed, None)
        except SpecimenError:
            if self._packed:
                for _ in (
                    self._contents()
                ):  # a damaged archive unpacks to rows that make no sense: say that it is damaged
                    pass
            raise

    def _tasks(self, types: dict[str, pa.DataType]) -> Iterator[tuple]:
        for content, lines, last in self._contents():
            yield self._parsed, content, lines, last, types

    def _contents(self) -> Iterator[tuple[bytes, range, bool]]:
        """(whole rows, the lines they are on, whether these are the last), and the checksum once all is read."""
        with (
            self._opened() as raw,
            progress(
                total=self.size,
                unit="B",
                unit_scale=True,
                delay=2,
                leave=False,
                desc=f"reading {self.path.name}",
            ) as bar,
        ):
            hashed = _Hashed(raw, bar)
            file = gzip.GzipFile(fileobj=hashed) if self._packed else hashed
            self._lines_read = self._header_lines
            rest = self._read(file, BLOCK)[self._skipped :]
            self._ends_with_newline = True
            while rest:
                more = self._read(file, BLOCK)
                cut = _end_of_last_row(rest) if more else len(rest)
                if cut:
                    content, rest = rest[:cut], rest[cut:]
                    self._ends_with_newline = content.endswith(b"\n")
                    after = self._lines_read + content.count(b"\n") + (not self._ends_with_newline)
                    lines = range(self._lines_read + 1, after + 1)
                    self._lines_read = after
                    yield content, lines, not more
                rest += more
            while hashed.read(BLOCK):  # what may follow the end of a gzip stream
                pass
            status = os.fstat(raw.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise SpecimenError(
                f"{self.path} changed while it was read. Is it still being written? Then try again after."
            )
        self.checksum = hashed.digest.hexdigest()

    def _read(self, file: io.RawIOBase | gzip.GzipFile, size: int) -> bytes:
        """`size` bytes, fewer at the end only."""
        parts = []
        try:
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            line = (
                f"after line {self._lines_read:,}" if hasattr(self, "_lines_read") else "in its first lines"
            )
            what = "is cut short" if isinstance(error, EOFError) else "is damaged"
            raise SpecimenError(f"{self.path} {what} {line} ({error}). Fetch it again.") from None
        except OSError as error:
            raise SpecimenError(f"{self.path} cannot be read ({error.strerror}).") from None
        return b"".join(parts)

    def _parsed(
        self, content: bytes, lines: range, last: bool, types: dict[str, pa.DataType]
    ) -> tuple[Block, list[int]]:
        """The rows of one block, and which of its lines were not UTF-8."""
        strange: list[int] = []
        if not _is_utf8(content):
            text, strange = as_text(content)
            content = text.encode()
        try:
            table = self._arrow(content, types)
            for name in (
                name for name, kind in types.items() if kind == pa.int32()
            ):  # by way of floats: "634333.0"
                table = table.set_column(
                    table.schema.get_field_index(name), name, table.column(name).cast(pa.int32())
                )
        except pa.ArrowInvalid as error:
            table = self._examined(content, lines, last, types, str(error))
        of_rows = (
            lines if table.num_rows == len(lines) else [line for _, line in self._rows(content, lines.start)]
        )
        return Block(table, of_rows), [lines[line - 1] for line in strange]

    def _arrow(self, content: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
        return pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(column_names=self.header, use_threads=False, block_size=len(content) + 1),
            pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,
                column_types={
                    name: pa.float64() if kind == pa.int32() else kind for name, kind in types.items()
                },
                include_columns=list(types),
                null_values=NULL_WORDS,
                strings_can_be_null=True,
            ),
        )

    def _examined(
        self, content: bytes, lines: range, last: bool, types: dict[str, pa.DataType], refusal: str
    ) -> pa.Table:
        """The block once more, field by field: what is wrong is raised, numbers that only look strange are read."""
        of_rows = []
        for row, line in self._rows(content, lines.start):
            of_rows.append(line)
            if len(row) == len(self.header):
                continue
            if last and not content.endswith(b"\n") and line == lines[-1]:
                raise SpecimenError(
                    f"{self.path.name} ends in the middle of line {line:,}, after {len(row)} of {len(self.header)} fields: "
                    "the file is cut short. Fetch it again."
                )
            raise SpecimenError(
                f"{self.path.name}, line {line:,}: {len(row)} fields where the header has {len(self.header)} "
                f"({_listed(self.header)}). Is there a field with a {self.delimiter!r} in it not in quotes, or a quote that "
                "is not closed?"
            )
        texts = {
            name: pa.string() if kind in (pa.float64(), pa.int32()) else kind for name, kind in types.items()
        }
        try:
            table = self._arrow(content, texts)
        except pa.ArrowInvalid:
            where = f"lines {lines[0]:,} to {lines[-1]:,}"
            raise SpecimenError(f"{self.path.name}, {where}: not a CSV ({refusal}).") from None
        for name, kind in types.items():
            if texts[name] != kind:
                values = _as_numbers(
                    table.column(name), of_rows, name, self.path.name, whole=kind == pa.int32()
                )
                table = table.set_column(table.schema.get_field_index(name), name, values.cast(kind))
        return table

    def _rows(self, content: bytes, first_line: int) -> Iterator[tuple[list[str], int]]:
        """(fields, line on which it starts) of every row that is not blank."""
        reader = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=self.delimiter)
        before = 0
        try:
            for row in reader:
                if row:
                    yield row, first_line + before
                before = reader.line_num
        except csv.Error as error:
            raise SpecimenError(
                f"{self.path.name}, line {first_line + before:,}: not a readable CSV ({error}). Is there a quote that is "
                "not closed?"
            ) from None


class _Hashed(io.RawIOBase):
    """A file whose bytes are counted and digested as they are read."""

    def __init__(self, raw: io.RawIOBase, bar):
        self.raw, self.bar, self.digest = raw, bar, hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        part = self.raw.read(size)
        self.digest.update(part)
        self.bar.update(len(part))
        return part


def _in_order(pool: ThreadPoolExecutor, ahead: int, tasks: Iterator[tuple]) -> Iterator:
    """The results of `tasks` in their order, at most `ahead` of them begun."""
    begun: list[Future] = []
    for task in tasks:
        begun.append(pool.submit(*task))
        if len(begun) == ahead:
            yield begun.pop(0).result()
    while begun:
        yield begun.pop(0).result()


def _end_of_last_row(content: bytes) -> int:
    """Where the last line break outside quotes ends; 0 where there is none.

    Quotes are counted, which a stray one (12" in a field without quotes) upsets: then any line break has to do.
    """
    cut = content.rfind(b"\n") + 1
    if b'"' not in content:
        return cut
    end, quotes = cut, content.count(b'"', 0, cut)
    while end and quotes % 2:
        quote = content.rfind(b'"', 0, end)
        end = content.rfind(b"\n", 0, quote) + 1
        quotes -= content.count(b'"', end, quote + 1)
    return end or (cut if len(content) > 2 * BLOCK else 0)


def _is_utf8(content: bytes) -> bool:
    buffers = [None, pa.py_buffer(np.array([0, len(content)], np.int32)), pa.py_buffer(content)]
    try:
        pa.Array.from_buffers(pa.string(), 1, buffers).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _as_numbers(
    texts: pa.ChunkedArray, lines: Sequence[int], column: str, name: str, whole: bool
) -> pa.Array:
    """Texts as float64, with decimal commas and blanks; raises SpecimenError for what is no number."""
    series = pd.Series(texts.to_pylist(), dtype=object)
    values, wrong = numbers(series)
    if whole:
        wrong += sorted(set(series[values.notna() & ((values % 1 != 0) | (values.abs() >= 2**31))]))
    if wrong:
        first = int(np.flatnonzero(series.isin(wrong))[0])
        more = (
            f" ({series.isin(wrong).sum():,} such values from here on)"
            if series.isin(wrong).sum() > 1
            else ""
        )
        raise SpecimenError(
            f"{name}, line {lines[first]:,}: {series[first]!r} in column {column!r} is no {'whole ' * whole}number{more}. "
            "Correct it, or leave the field empty."
        )
    return pa.array(values, from_pandas=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
