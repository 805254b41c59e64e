"""Tables of labels as people save them: any delimiter, encoding, line ending and header spelling.

`read_table` returns text columns under the names of `schema`. `Dialect.of` finds the delimiter and the header line,
`rows_of` divides text into rows; both are used for large tables too (`columnar`). What was guessed is said in a note,
what cannot be read is refused with its line number. Every line below the header is a row of the result or is counted
in a note.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.notes import LeftOut, some
from bionas.specimens.schema import ALIASES, COLUMNS, cleaned

FILE_NAMES = ("file", "image", "path", "filename", "file_name", "image_file", "image_path")
"""Headers under which a table may name its photographs."""

DELIMITERS = ",;\t|"
HEADER_WITHIN = 10
"""Non-blank lines in which the header is looked for: titles may stand above it."""
SAMPLE = 50
"""Non-blank lines that decide the delimiter."""
LONGEST_CELL = 200
"""Lines that one quoted cell may span; a quotation mark open for longer is taken for a stray one."""

_DECLARED = re.compile(r'"?sep=(.)"?[\s,;|]*', re.IGNORECASE)  # Excel's `sep=;`


class Table(NamedTuple):
    """`frame`: text columns, "" where a cell is empty; `lines`: (N,) line of the file each row starts on.

    `rows` is the number of rows below the header, those included that `notes` count as left out.
    """

    frame: pd.DataFrame
    lines: np.ndarray
    notes: tuple[str, ...]
    rows: int


class Row(NamedTuple):
    """One row of a table. `stray`: a quotation mark in it is not closed and was read as a character."""

    cells: list[str]
    line: int
    stray: bool = False


def read_table(path: str | os.PathLike) -> Table:
    """A CSV or TSV with a header line.

    Raises:
        SpecimenError: the file is missing, empty, an Excel workbook, has no rows, equal column names, or a row whose
            number of fields is not that of the header.
    """
    path = Path(path)
    text, notes = _decoded(path)
    lines = text.split("\n")
    dialect = Dialect.of(lines, path)
    if dialect is None:
        raise SpecimenError(
            f"{path} is empty. It needs a header (file, order, ...) and one row per photograph."
        )
    header = schema_names(dialect.header, path.name)
    width = len(header)
    rows = list(rows_of(lines[dialect.skipped :], dialect.delimiter, width, dialect.skipped + 1))
    widths = {len(row.cells) for row in rows}
    if len(widths) == 1 and not any(cell.strip() for row in rows for cell in row.cells[width:]):
        rows = [row._replace(cells=row.cells[:width]) for row in rows]  # every row ends with empty cells
    body, numbers_of_lines, stray, blank = [], [], [], []
    for row in rows:
        cells = [cleaned(cell) for cell in row.cells]
        if not any(cells):
            blank.append(row.line)
            continue
        if len(cells) != width:
            raise SpecimenError(
                f"{path.name}, row {row.line}: {len(cells)} fields where the header has {width} ({', '.join(header)}). "
                f"Is the file cut short, or a field with a {dialect.delimiter!r} in it not in quotes?"
            )
        if row.stray:
            stray.append(row.line)
        body.append(cells)
        numbers_of_lines.append(row.line)
    if not body:
        raise SpecimenError(f"{path} has a header ({', '.join(header)}) but no rows.")
    notes += dialect.notes(path.name) + stray_note(path.name, stray)
    if blank:
        notes += (LeftOut(f"{len(blank):,} rows of {path.name} are empty: row {some(blank)}.", len(blank)),)
    frame = pd.DataFrame(body, columns=header, dtype=object)
    return Table(frame, np.array(numbers_of_lines), notes, len(body) + len(blank))


class Dialect(NamedTuple):
    """How a table is written: its delimiter, the cells of its header, and the lines up to and including the header."""

    delimiter: str
    header: list[str]
    skipped: int
    titles: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Sequence[str], path: Path, aliases: Mapping[str, str] = ALIASES) -> Dialect | None:
        """The dialect of a table's first lines, or None where they are blank.

        The delimiter is the one that yields most known column names in one line, then the same number of cells in most
        lines. Lines above the header (a title, `sep=;`) are passed over and named by `notes`.
        """
        known = {name.lower() for name in (*COLUMNS, *FILE_NAMES, *aliases)}
        numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip("\ufeff \t")][
            :SAMPLE
        ]
        declared = _DECLARED.fullmatch(numbered[0][1].strip("\ufeff ")) if numbered else None
        if declared:
            numbered = numbered[1:]
        if not numbered:
            return None
        first = (
            "\t" if path.name.lower().split(".gz")[0].endswith(".tsv") else declared[1] if declared else ""
        )

        def fit(delimiter: str) -> tuple:
            cells = [split_line(line, delimiter)[0] for _, line in numbered]
            widths = [len(row) for row in cells]
            usual = max(set(widths), key=lambda width: (width > 1, widths.count(width), width))
            names = max(_known(row, known) for row in cells[:HEADER_WITHIN])
            return (delimiter == first and max(widths) > 1, names, usual > 1, widths.count(usual), usual)

        delimiter = max(dict.fromkeys([*first, *DELIMITERS]), key=fit)
        rows = [[cell.strip("\ufeff \t") for cell in split_line(line, delimiter)[0]] for _, line in numbered]
        place = _header_place(rows[:HEADER_WITHIN], known)
        titles = tuple(line.strip() for _, line in numbered[:place])
        return cls(delimiter, rows[place], numbered[place][0], titles)

    def notes(self, name: str) -> tuple[str, ...]:
        """A note on the lines above the header, or none."""
        if not self.titles:
            return ()
        shown = "; ".join(repr(title[:60]) for title in self.titles)
        return (f"{name}: the header is line {self.skipped}; what stands above it was passed over: {shown}.",)


def _known(cells: Iterable[str], known: set[str]) -> int:
    return sum(cell.strip("\ufeff \t").lower() in known for cell in cells)


def _header_place(rows: Sequence[Sequence[str]], known: set[str]) -> int:
    if _known(rows[0], known):
        return 0
    for place, row in enumerate(rows):
        if _known(row, known) > 1:
            return place
    if sum(map(bool, rows[0])) > 1:
        return 0
    return next((place for place, row in enumerate(rows) if sum(map(bool, row)) > 1), 0)


def rows_of(lines: Iterable[str], delimiter: str, width: int, first_line: int) -> Iterator[Row]:
    """The rows of a table's lines, blank lines left out.

    A cell in quotes may hold delimiters, doubled quotes and line breaks (RFC 4180). A quotation mark that is not closed
    before a delimiter or the end of its line is one of two things. Where the lines up to the closing mark are rows of
    `width` cells each by themselves, or no mark closes it, it is a character like others ("12 mm); otherwise the cell
    continues over these lines.
    """
    ahead: deque[str] = deque()
    lines = iter(lines)
    number = first_line - 1
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        number += 1
        if not line.strip() and delimiter not in line:
            continue
        cells, is_open = split_line(line, delimiter)
        if is_open:
            while len(ahead) < LONGEST_CELL and (more := next(lines, None)) is not None:
                ahead.append(more)
            joined = _joined(line, ahead, delimiter, width)
            if joined is not None:
                cells, used = joined
                yield Row(cells, number)
                for _ in range(used):
                    ahead.popleft()
                number += used
                continue
        yield Row(cells, number, is_open)


def _joined(line: str, following: Iterable[str], delimiter: str, width: int) -> tuple[list[str], int] | None:
    """The cells of a row that continues over `following`, and the number of lines used; None where it does not."""
    text, all_rows = line, len(split_line(line, delimiter)[0]) == width
    for used, more in enumerate(following, start=1):
        text += "\n" + more
        all_rows = all_rows and (not more.strip() or len(split_line(more, delimiter)[0]) == width)
        if '"' not in more:
            continue
        cells, is_open = split_line(text, delimiter)
        if not is_open:
            return (cells, used) if len(cells) == width and not (all_rows and width > 1) else None
    return None


def split_line(line: str, delimiter: str) -> tuple[list[str], bool]:
    """The cells of a line, and whether one of them begins with a quotation mark that is not closed in it."""
    if '"' not in line:
        return line.split(delimiter), False
    quoted = _quoted_cell(delimiter)
    cells, start, is_open = [], 0, False
    while True:
        match = quoted.match(line, start)
        if match:
            cells.append(match[1].replace('""', '"'))
            end = match.end()
        else:
            end = line.find(delimiter, start)
            end = len(line) if end < 0 else end
            is_open = is_open or line[start:end].lstrip(" ").startswith('"')
            cells.append(line[start:end])
        if end >= len(line):
            return cells, is_open
        start = end + 1


_PATTERNS: dict[str, re.Pattern] = {}


def _quoted_cell(delimiter: str) -> re.Pattern:
    if delimiter not in _PATTERNS:
        _PATTERNS[delimiter] = re.compile(rf' *"((?:[^"]|"")*)" *(?={re.escape(delimiter)}|\Z)')
    return _PATTERNS[delimiter]


def stray_note(name: str, lines: Sequence[int]) -> tuple[str, ...]:
    """A note on lines whose quotation mark is not closed, or none."""
    if not lines:
        return ()
    found = f"{name}: {len(lines):,} lines have a quotation mark that is not closed (lines {some(lines)})"
    return (f"{found}; it was read as a character.",)


def schema_names(cells: Sequence[str], name: str, aliases: Mapping[str, str] = ALIASES) -> list[str]:
    """The cells of a header under the schema's names, whatever their case; `name` is the file's, for the message.

    Raises:
        SpecimenError: two columns come to the same name.
    """
    known = {column.lower(): column for column in (*COLUMNS, *FILE_NAMES)} | dict(aliases)
    cells = [cleaned(cell.strip("\ufeff")) for cell in cells]
    header = [known.get(cell.lower(), cell) or f"unnamed_{i}" for i, cell in enumerate(cells, start=1)]
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise SpecimenError(f"{name}: more than one column is called {', '.join(map(repr, doubled))}.")
    return header


def as_text(content: bytes) -> tuple[str, list[int]]:
    """UTF-8 bytes as text with line ends \\n, lines that are not UTF-8 read as Windows-1252; and these lines' numbers."""
    try:
        return unified(content.decode("utf-8")), []
    except UnicodeDecodeError:
        lines, strange = [], []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            strange.append(number)
    return unified("".join(lines)), strange


def unified(text: str) -> str:
    """The text with \\n at the end of every line: Windows writes \\r\\n, old Macintosh programs \\r."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encoding_note(name: str, strange: Sequence[int], lines: int) -> str:
    """A note on the `strange` line numbers out of `lines` lines."""
    shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
    return (
        f"{name}: {len(strange):,} of {lines:,} lines are not UTF-8 (lines {shown}); they were read as Windows-1252. "
        "Check the accents in names, or save the table as UTF-8."
    )


def refuse_other_formats(path: Path, head: bytes) -> None:
    """Raises SpecimenError where `head`, the first bytes of a file, says that it is an Excel workbook or a ZIP archive."""
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "[Content_Types].xml" not in names:
            tables = [name for name in names if name.lower().endswith((".csv", ".tsv"))]
            inside = f": {', '.join(tables[:3])} is in it" if tables else ""
            raise SpecimenError(f"{path} is a ZIP archive{inside}. Unpack it and name the table.")
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SpecimenError(f"{path} is an Excel workbook, whatever its name says. Save it as CSV (UTF-8).")


def utf16_of(head: bytes) -> str | None:
    """The UTF-16 codec in which a file with these first bytes is written, by its mark or its zero bytes; else None."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    sample = head[:200]
    if sample[1::2].count(0) > len(sample) // 3:
        return "utf-16-le"
    return "utf-16-be" if sample[::2].count(0) > len(sample) // 3 else None


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecimenError(f"{path} is not there.") from None
    except OSError as error:
        raise SpecimenError(f"{path} cannot be read ({error.strerror}).") from None
    refuse_other_formats(path, content[:4])
    if codec := utf16_of(content):
        return unified(content.decode(codec, errors="replace")), ()
    content = content.removeprefix(b"\xef\xbb\xbf")
    text, strange = as_text(content)
    return text, (encoding_note(path.name, strange, len(content.splitlines())),) if strange else ()
