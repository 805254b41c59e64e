"""Reading a table of labels as people save it: commas, semicolons or tabs, UTF-8 or not, header in any case.

`read_table` returns text columns under the names of `schema`; `numbers` turns a measurement column into floats. What
had to be guessed is said in a note, what cannot be read is refused with its line.
"""

from __future__ import annotations

import csv
import io
import os
import re
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
        raise SpecimenError(f"{path} is empty. It needs a header (file, order, ...) and one row a photograph.")
    header, body, lines = _header(rows[0], path.name), rows[1:], lines[1:]
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


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecimenError(f"{path} is not there.") from None
    except OSError as error:
        raise SpecimenError(f"{path} cannot be read ({error.strerror}).") from None
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SpecimenError(f"{path} is an Excel workbook, whatever its name says. Save it as CSV (UTF-8).")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), ()
    lines, strange = [], []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            strange.append(number)
    if not strange:
        return "".join(lines), ()
    shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
    return "".join(lines), (
        f"{path.name}: {len(strange):,} of {len(lines):,} lines are not UTF-8 (lines {shown}); they were read as "
        "Windows-1252. Check the accents in names, or save the table as UTF-8.",
    )


def _header(cells: list[str], name: str) -> list[str]:
    """Headers under the schema's names, whatever their case."""
    known = {column.lower(): column for column in (*COLUMNS, *FILE_NAMES)} | ALIASES
    header = [known.get(cell.lower(), cell) or f"unnamed_{i}" for i, cell in enumerate(cells, start=1)]
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise SpecimenError(f"{name}: more than one column is called {', '.join(map(repr, doubled))}.")
    return header
