"""Reading a table of labels as people save it: commas, semicolons or tabs, UTF-8 or not, header in any case.

`read_table` returns text columns under the names of `schema`; `numbers` turns a measurement column into floats. What
had to be guessed is said in a note, what cannot be read is refused with its line. Tables too large for that, written by
machines, are the business of `columnar`; how headers are named and foreign bytes are read is the same for both.
"""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.schema import ALIASES, COLUMNS, is_missing

FILE_NAMES = ("file", "image", "path", "filename", "file_name", "image_file", "image_path")
"""Headers under which a table may name its photographs."""


class Table(NamedTuple):
    """`frame`: text columns, "" where a cell is empty; `lines`: (N,) line of the file each row is on; `notes`."""

    frame: pd.DataFrame
    lines: np.ndarray
    notes: tuple[str, ...]


def read_table(path: str | os.PathLike) -> Table:
    """A CSV or TSV with a header line.

    Raises:
        SpecimenError: the file is missing, empty, an Excel workbook, has no rows, equal column names, or a row whose
            number of fields is not that of the header.
    """
    path = Path(path)
    text, notes = _decoded(path)
    header_line = text.lstrip("\n").split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise SpecimenError(f"{path.name}, line {reader.line_num}: not a readable CSV ({error}).") from None
    if not rows:
        raise SpecimenError(
            f"{path} is empty. It needs a header (file, order, ...) and one row a photograph."
        )
    header, body, lines = schema_names(rows[0], path.name), rows[1:], lines[1:]
    if not body:
        raise SpecimenError(f"{path} has a header ({', '.join(header)}) but no rows.")
    for row, line in zip(body, lines, strict=True):
        if len(row) != len(header):
            raise SpecimenError(
                f"{path.name}, row {line}: {len(row)} fields where the header has {len(header)} ({', '.join(header)}). "
                f"Is the file cut short, or a field with a {delimiter!r} in it not in quotes?"
            )
    return Table(pd.DataFrame(body, columns=header, dtype=object), np.array(lines), notes)


def numbers(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """A text column as float64 (decimal commas read too), NaN where missing; and the texts that are no number."""
    unknown = column.map(is_missing)
    text = column.mask(unknown).map(
        lambda value: re.sub(r"^\s*([+-]?\d+),(\d+)\s*$", r"\1.\2", value), na_action="ignore"
    )
    values = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return values, sorted(set(column[values.isna() & ~unknown]))


def schema_names(cells: Sequence[str], name: str, aliases: Mapping[str, str] = ALIASES) -> list[str]:
    """The cells of a header under the schema's names, whatever their case; `name` is the file's, for the message.

    Raises:
        SpecimenError: two columns come to the same name.
    """
    known = {column.lower(): column for column in (*COLUMNS, *FILE_NAMES)} | dict(aliases)
    header = [known.get(cell.lower(), cell) or f"unnamed_{i}" for i, cell in enumerate(cells, start=1)]
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise SpecimenError(f"{name}: more than one column is called {', '.join(map(repr, doubled))}.")
    return header


def as_text(content: bytes) -> tuple[str, list[int]]:
    """UTF-8 bytes as text, lines that are not UTF-8 read as Windows-1252; and which lines these are, counted from 1."""
    lines, strange = [], []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            strange.append(number)
    return "".join(lines), strange


def encoding_note(name: str, strange: Sequence[int], lines: int) -> str:
    """What is said of `strange` lines out of `lines`."""
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


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecimenError(f"{path} is not there.") from None
    except OSError as error:
        raise SpecimenError(f"{path} cannot be read ({error.strerror}).") from None
    refuse_other_formats(path, content[:4])
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), ()
    content = content.removeprefix(b"\xef\xbb\xbf")
    text, strange = as_text(content)
    return text, (encoding_note(path.name, strange, len(content.splitlines())),) if strange else ()
