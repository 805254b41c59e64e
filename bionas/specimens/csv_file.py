"""A large CSV, plain or gzipped, read in record batches by pyarrow, with Python's careful reading behind it.

`CsvFile.parse` streams the columns asked for through pyarrow. Where pyarrow refuses the file, or where its rows are not
the file's lines (a quotation mark that is not closed swallows lines), the file is read again row by row (`tables.rows_of`):
that is slow, names the line and the field of an error, and hands pyarrow rows that are unmistakable.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import os
import zlib
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.csv

from bionas.errors import SpecimenError
from bionas.specimens.notes import some
from bionas.specimens.schema import ALIASES, MISSING_WORDS
from bionas.specimens.tables import (
    Dialect,
    Row,
    as_text,
    encoding_note,
    refuse_other_formats,
    rows_of,
    schema_names,
    stray_note,
    unified,
    utf16_of,
)
from bionas.system.progress import progress

T = TypeVar("T")

BLOCK = 8 << 20
"""Bytes parsed at a time; a few blocks are in memory at once."""

HEAD = 1 << 16
"""Bytes in which delimiter and header are looked for."""

HEADERS = ALIASES | {"country_or_geography": "country"}
"""Other spellings of a header in tables made by machines (the second is BOLD's)."""

NULL_NUMBERS = sorted(
    {spelt for word in MISSING_WORDS for spelt in (word, word.upper(), word.title(), "NaN")}
)
"""What pyarrow reads as missing in a column of numbers; other spellings take the careful way."""


class _RowsAreNotLines(Exception):
    """pyarrow found another number of rows than the file has lines: a cell with line breaks, or a stray quote."""


class CsvFile:
    """A CSV or TSV whose header has been read.

    Args:
        path: the file.
        renamed: {header in the file: name to use}, for headers that `schema` does not know.

    Attributes:
        header: names of the columns as `schema` spells them.
        size, mtime_ns: of the file as it was opened.
        checksum: MD5 of the file's bytes on the disk, as BIOSCAN publishes it.
        rows: how many there are.
        notes: what was read with a reservation. These three are set by `parse`.

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
            refuse_other_formats(self.path, raw.read(4))
            raw.seek(0)
            self._packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            head = self._read(gzip.GzipFile(fileobj=raw) if self._packed else raw, HEAD)
        if utf16_of(head):
            raise SpecimenError(f"{self.path} is UTF-16. Save it as UTF-8.")
        text = as_text(head.removeprefix(b"\xef\xbb\xbf"))[0]
        aliases = HEADERS | {old.lower(): new for old, new in (renamed or {}).items()}
        lines = text.split("\n")
        dialect = Dialect.of(lines[:-1] or lines, self.path, aliases)
        if dialect is None:
            raise SpecimenError(f"{self.path} is empty. It needs a header (processid, order) and rows.")
        self._dialect = dialect
        self.header = schema_names(dialect.header, self.path.name, aliases)

    def parse(
        self, columns: Sequence[str], numbers: Sequence[str], consume: Callable[[Iterator[pa.RecordBatch]], T]
    ) -> T:
        """What `consume` returns of the record batches of `columns`, in the order of the file.

        Columns of `numbers` are float64, all others strings; read carefully, all are strings. `consume` may be called
        twice: the first time pyarrow alone reads, the second time after the careful reading.

        Raises:
            SpecimenError: a row with another number of fields than the header, a file cut short, damaged or changed while
                it is read; the message names the line.
        """
        types = {name: pa.float64() if name in numbers else pa.string() for name in columns}
        source = _Source(self)
        with contextlib.suppress(pa.ArrowInvalid, _RowsAreNotLines):
            return consume(self._counted(source, source, types))
        rows = _CarefulRows(self)
        return consume(self._counted(rows, rows.source, dict.fromkeys(columns, pa.string())))

    def _counted(
        self, stream: _Source | _CarefulRows, source: _Source, types: Mapping[str, pa.DataType]
    ) -> Iterator[pa.RecordBatch]:
        """The record batches of a stream; after the last one, `checksum`, `rows` and `notes` are set."""
        rows = 0
        for batch in self._batches(stream, types):
            rows += batch.num_rows
            yield batch
        source.finish()
        if stream is source and rows != source.lines and rows != source.lines - self._blank_lines():
            raise _RowsAreNotLines
        if rows == 0:
            raise SpecimenError(f"{self.path} has a header ({listed(self.header)}) but no rows.")
        self._note(source, rows)
        if isinstance(stream, _CarefulRows):
            self.notes += stray_note(self.path.name, stream.stray)

    def _blank_lines(self) -> int:
        """How many lines below the header are empty: one more pass, where rows and lines differ."""
        parts = _Source(self).parts()
        return sum(not line for part in parts for line in part.removesuffix(b"\n").split(b"\n"))

    def lines_at(self, rows: Iterable[int]) -> list[int]:
        """The lines on which these rows start (row 0 is the first below the header): one more pass, for messages."""
        wanted = sorted(set(rows))
        lines: list[int] = []
        for number, row in enumerate(self.careful_rows(_Source(self))):
            if len(lines) == len(wanted):
                break
            if number == wanted[len(lines)]:
                lines.append(row.line)
        return lines

    def careful_rows(self, source: _Source) -> Iterator[Row]:
        """The file's rows, each with the header's number of cells."""
        width = len(self.header)
        for row in rows_of(source.text_lines(), self._dialect.delimiter, width, self._dialect.skipped + 1):
            cells = row.cells
            if len(cells) == width:
                yield row
                continue
            if self._packed:
                source.finish()  # a damaged archive unpacks to nonsense: report the damage instead
            if (
                source.ended
                and not source.ends_with_newline
                and row.line == source.lines + self._dialect.skipped
            ):
                raise SpecimenError(
                    f"{self.path.name} ends in the middle of line {row.line:,}, after {len(cells)} of {width} fields: "
                    "the file is cut short. Fetch it again."
                )
            raise SpecimenError(
                f"{self.path.name}, line {row.line:,}: {len(cells)} fields where the header has {width} "
                f"({listed(self.header)}). Is there a field with a {self._dialect.delimiter!r} in it not in quotes, or a "
                "quote that is not closed?"
            )

    def _batches(
        self, source: _Source | _CarefulRows, types: Mapping[str, pa.DataType]
    ) -> Iterator[pa.RecordBatch]:
        try:
            yield from pyarrow.csv.open_csv(
                pa.PythonFile(source, "r"),
                pyarrow.csv.ReadOptions(column_names=self.header, block_size=BLOCK),
                pyarrow.csv.ParseOptions(delimiter=self._dialect.delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    column_types=dict(types),
                    include_columns=list(types),
                    null_values=NULL_NUMBERS,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if source.failure is not None:
                raise source.failure from None
            if "Empty CSV file" in str(error):
                raise SpecimenError(
                    f"{self.path} has a header ({listed(self.header)}) but no rows."
                ) from None
            raise

    def _note(self, source: _Source, rows: int) -> None:
        last = source.lines + self._dialect.skipped
        notes = self._dialect.notes(self.path.name)
        if source.strange:
            notes += (encoding_note(self.path.name, source.strange, last),)
        if not source.ends_with_newline:
            cut = (
                f"{self.path.name} does not end with a line break: if it was cut short, its last row (line {last:,}) is "
                "not whole. Compare its size or checksum with the published ones."
            )
            notes += (cut,)
        self.checksum, self.rows, self.notes = source.checksum, rows, notes

    def _opened(self):
        try:
            return self.path.open("rb", buffering=0)
        except FileNotFoundError:
            raise SpecimenError(f"{self.path} is not there.") from None
        except IsADirectoryError:
            tables = sorted(p.name for p in self.path.iterdir() if {".csv", ".tsv"} & set(p.suffixes))
            inside = f" Name the table in it: {listed(tables)}." if tables else " There is no CSV in it."
            raise SpecimenError(f"{self.path} is a folder, not a table.{inside}") from None
        except OSError as error:
            raise SpecimenError(f"{self.path} cannot be read ({error.strerror}).") from None

    def _read(self, file: io.RawIOBase | gzip.GzipFile, size: int, after_line: int | None = None) -> bytes:
        """`size` bytes, fewer at the end only."""
        parts = []
        try:
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            if parts and after_line is None:
                return b"".join(parts)
            line = "in its first lines" if after_line is None else f"after line {after_line:,}"
            what = "is cut short" if isinstance(error, EOFError) else "is damaged"
            raise SpecimenError(f"{self.path} {what} {line} ({error}). Fetch it again.") from None
        except OSError as error:
            raise SpecimenError(f"{self.path} cannot be read ({error.strerror}).") from None
        return b"".join(parts)


class _Stream:
    """What pyarrow needs of a file in Python: `read`. An error is kept in `failure`, since pyarrow may rephrase it."""

    closed = False

    def __init__(self):
        self.failure: SpecimenError | None = None
        self._left = memoryview(b"")
        self._parts: Generator[bytes] = (part for part in ())

    def read(self, size: int = -1) -> memoryview:
        try:
            while not len(self._left):
                part = next(self._parts, None)
                if part is None:
                    return memoryview(b"")
                self._left = memoryview(part)
        except SpecimenError as error:
            self.failure = error
            raise
        size = len(self._left) if size < 0 else size
        part, self._left = self._left[:size], self._left[size:]
        return part

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self._parts.close()


class _Source(_Stream):
    """The rows of a file below its header as UTF-8 with \\n at the end of lines.

    Attributes:
        lines: below the header, as far as it was read.
        strange: numbers of the lines that were not UTF-8.
        ended, ends_with_newline, checksum: known when everything was read.
    """

    def __init__(self, file: CsvFile):
        super().__init__()
        self.file = file
        self.lines = 0
        self.strange: list[int] = []
        self.ended, self.ends_with_newline, self.checksum = False, True, ""
        self._parts = self._contents()

    def parts(self) -> Iterator[bytes]:
        """The file below its header in pieces of whole lines."""
        return self._parts

    def text_lines(self) -> Iterator[str]:
        """The lines as text."""
        for part in self._parts:
            lines = part.decode("utf-8").split("\n")
            yield from lines[:-1]
            if lines[-1]:
                yield lines[-1]  # the last one, without a line break

    def finish(self) -> None:
        """Read to the end, so that the checksum is known."""
        for _ in self._parts:
            pass

    def _contents(self) -> Generator[bytes]:
        file = self.file
        with (
            file._opened() as raw,
            progress(
                total=file.size,
                unit="B",
                unit_scale=True,
                delay=2,
                leave=False,
                desc=f"reading {file.path.name}",
            ) as bar,
        ):
            hashed = _Hashed(raw, bar)
            plain = gzip.GzipFile(fileobj=hashed) if file._packed else hashed
            skip, rest = file._dialect.skipped, b""
            while True:
                more = file._read(plain, BLOCK, self.lines + file._dialect.skipped)
                cut = max(more.rfind(b"\n"), more.rfind(b"\r", 0, -1)) + 1
                # Joined in one copy: at 4 GB each further one takes a noticeable share of the time.
                content = b"".join((rest, memoryview(more)[:cut])) if cut or not more else b""
                rest = more[cut:] if cut or not more else rest + more
                if content:
                    part = self._unified(content, skip)
                    skip = 0
                    if not more:
                        self.ends_with_newline = part.endswith(b"\n") or not part
                        self.ended = True
                    if part:
                        yield part
                if not more:
                    break
            while hashed.read(BLOCK):  # what may follow the end of a gzip stream
                pass
            status = os.fstat(raw.fileno())
        self.ended = True
        if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
            raise SpecimenError(
                f"{file.path} changed while it was read. Is it still being written? Then try again after."
            )
        self.checksum = hashed.digest.hexdigest()

    def _unified(self, content: bytes, skip: int) -> bytes:
        """Whole lines as UTF-8 with \\n, the first `skip` of them left out, all others counted."""
        if not _is_utf8(content):
            text, strange = as_text(content)
            first = self.lines + (self.file._dialect.skipped if not skip else 0)
            self.strange += [first + line for line in strange if line > skip or not skip]
            content = text.encode()
        elif b"\r" in content:
            content = unified(content.decode("utf-8")).encode()
        for _ in range(skip):
            content = content[content.find(b"\n") + 1 :] if b"\n" in content else b""
        self.lines += content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
        return content


class _CarefulRows(_Stream):
    """The rows of a file as Python reads them, written out again so that they can be read in one way only."""

    def __init__(self, file: CsvFile):
        super().__init__()
        self.source = _Source(file)
        self.stray = array("q")
        self._parts = self._written(file)

    def _written(self, file: CsvFile) -> Generator[bytes]:
        text = io.StringIO()
        writer = csv.writer(
            text, delimiter=file._dialect.delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        for row in file.careful_rows(self.source):
            writer.writerow(row.cells)
            if row.stray:
                self.stray.append(row.line)
            if text.tell() > BLOCK:
                yield text.getvalue().encode()
                text.seek(0)
                text.truncate()
        if text.tell():
            yield text.getvalue().encode()


class _Hashed(io.RawIOBase):
    """A file whose bytes are counted and hashed as they are read."""

    def __init__(self, raw: io.RawIOBase, bar):
        self.raw, self.bar, self.digest = raw, bar, hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        part = self.raw.read(size)
        self.digest.update(part)
        self.bar.update(len(part))
        return part


def _is_utf8(content: bytes) -> bool:
    if content.isascii():
        return True
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def listed(names: Sequence[str]) -> str:
    """Up to thirty names, for messages."""
    return some(names, 30)
