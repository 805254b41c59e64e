"""A table that grows batch by batch and survives a kill: no row twice, none missing.

Rows are appended to the table; a small journal beside it (`.NAME.progress.json`, replaced atomically) says how many bytes
are complete. A later start cuts the table back to these bytes and continues after the last complete row. The journal
also names what the rows were made with, so that rows of two models or two options are never mixed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from filelock import FileLock, Timeout

from bionas.errors import BionasError
from bionas.system import files

SAVE_ROWS = 256
"""Rows after which the journal is written, at least."""


class GrowingTable:
    """A CSV file that is written in pieces.

    Args:
        path: the table.
        columns: its header; the first column identifies a row.
        identity: what the rows are made with; a table with another identity is not continued.
        overwrite: start again where a table is there.

    Raises:
        BionasError: `path` is a table of something else, is open elsewhere, or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        columns: list[str],
        identity: Mapping[str, Any],
        overwrite: bool = False,
    ):
        self.path = Path(path)
        self.journal = self.path.with_name(f".{self.path.name}.progress.json")
        self.columns, self.identity = columns, dict(identity)
        self.overwrite = overwrite
        self.rows = 0
        self._file: BinaryIO | None = None
        self._unsaved = 0
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def __enter__(self) -> GrowingTable:
        if self.path.is_dir():
            raise BionasError(
                f"{self.path} is a folder. Name a file for the table, as {self.path / 'ids.csv'}."
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BionasError(
                f"{self.path} is being written by another program. Wait for it, or name another file."
            ) from None
        except OSError as error:
            raise self._cannot(error) from error
        try:
            complete = self._complete_bytes()
            if (
                not complete
            ):  # before the table, so that one without rows is known as interrupted after a kill
                self._write_journal(0)
            self._file = self.path.open("r+b" if complete else "wb")
            if complete:
                self._file.truncate(complete)
                self._file.seek(complete)
            else:
                self._file.write(_text([self.columns]))
                self._save()
        except OSError as error:
            self._lock.release()
            raise self._cannot(error) from error
        except BionasError:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            if self._file is not None:
                if kind is None or issubclass(kind, KeyboardInterrupt):
                    self._save()
                self._file.close()
        except OSError as error:
            if kind is None:
                raise self._cannot(error) from error
        finally:
            self._lock.release()
            with contextlib.suppress(OSError):
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def done(self) -> set[str]:
        """The first column of the rows that are there."""
        return {row[0] for row in self._read()}

    def count(self, column: str) -> dict[str, int]:
        """How often each value of a column occurs in the rows that are there."""
        place = self.columns.index(column)
        counts: dict[str, int] = {}
        for row in self._read():
            counts[row[place]] = counts.get(row[place], 0) + 1
        return counts

    def append(self, frame: pd.DataFrame) -> None:
        """Add rows."""
        try:
            self._open_file.write(_text(frame.itertuples(index=False)))
            self.rows += len(frame)
            self._unsaved += len(frame)
            if self._unsaved >= SAVE_ROWS:
                self._save()
        except OSError as error:
            raise self._cannot(error) from error

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None  # rows are read and written inside the `with` block
        return self._file

    def _read(self) -> Iterator[list[str]]:
        self._open_file.flush()
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            yield from reader

    def _save(self) -> None:
        file = self._open_file
        file.flush()
        os.fsync(file.fileno())
        self._write_journal(file.tell())
        self._unsaved = 0

    def _write_journal(self, complete: int) -> None:
        files.write_json(self.journal, {"bytes": complete, "identity": self.identity})

    def _complete_bytes(self) -> int:
        """Bytes of the table that are complete; 0 to start a new one."""
        if self.overwrite or not self.path.exists():
            return 0
        if not self.journal.exists():
            if self.path.stat().st_size == 0:
                return 0
            raise BionasError(
                f"{self.path} is there already and is not an interrupted table. Name another file, or pass --overwrite."
            )
        held = files.read_json(self.journal)
        before = held.get("identity", {})
        differing = sorted(
            name
            for name in before.keys() | self.identity.keys()
            if before.get(name) != self.identity.get(name)
        )
        if differing:
            listed = ", ".join(
                f"{name}: {before.get(name)} there, {self.identity.get(name)} now" for name in differing[:3]
            )
            raise BionasError(
                f"{self.path} was made with something else ({listed}). Name another file, or pass --overwrite."
            )
        if self.path.stat().st_size < held["bytes"]:
            raise BionasError(
                f"{self.path} is shorter than when it was written: it was changed. Name another file, or pass --overwrite."
            )
        return held["bytes"]

    def _cannot(self, error: OSError) -> BionasError:
        if error.errno in files.NO_SPACE:
            return BionasError(
                f"no space left to write {self.path}. Free some space and run the same command again: it continues after "
                "the last complete row."
            )
        return BionasError(
            f"{self.path} cannot be written ({error.strerror}). Close it in other programs, or name a file in a folder that "
            "you may write to."
        )


def _text(rows: Any) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
