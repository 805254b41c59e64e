"""Files: written so that a kill, a full disk or a second process never leaves half of one; tables and JSON read.

What is written goes to a temporary name in the same folder, is flushed to disk, and is renamed over the old file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import psutil

from bionas.errors import BionasError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a spent quota, a limit on the size of a file: to the reader they are one."""
_SEEKING = threading.Lock()
_dropping: list[bool] = []


@contextlib.contextmanager
def writing_nothing() -> Iterator[None]:
    """Drop everything that this process writes by `replacing`: in a job of several processes, one writes."""
    _dropping.append(True)
    try:
        yield
    finally:
        _dropping.pop()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file for bytes; on a clean exit it takes the place of `path`, otherwise it is removed.

    Raises:
        BionasError: the disk is full or the folder cannot be written; whatever stood at `path` is untouched.
    """
    if _dropping:
        yield io.BytesIO()
        return
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
        file = temporary.open("xb")
    except OSError as error:
        raise BionasError(
            f"cannot write in {path.parent}: {error.strerror}. Name a file in a folder that you may write to."
        ) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise BionasError(
                f"no space left to write {path}. What was there before is intact; free some space and run the same "
                "command again: it resumes from the last complete checkpoint where there is one."
            ) from error
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def sweep(folder: str | os.PathLike) -> None:
    """Remove what processes that were killed left half-written under `folder`. Nothing else may be writing there."""
    for part in Path(folder).rglob(".*.part"):
        written_by = part.name.split(".")[-2].split("-")[0]
        if written_by.isdigit() and (
            int(written_by) == os.getpid() or not psutil.pid_exists(int(written_by))
        ):
            part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | os.PathLike, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def read_at(descriptor: int, n: int, place: int) -> bytes:
    """Up to `n` bytes of an open file from `place` on; any number of threads may read one file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, n, place)
    with _SEEKING:  # Windows has one position per open file
        os.lseek(descriptor, place, os.SEEK_SET)
        return os.read(descriptor, n)


TEXT = ("class", "truth", "predicted", "processid", "sampleid", "file", "dna_bin", "choice")
"""Columns that are text whatever they look like: a class may be called 01, 3 or NA."""


def read_csv(path: str | os.PathLike) -> pd.DataFrame:
    """A table written by `write_csv`: the columns named in `TEXT` as text, an empty field as missing and nothing else."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def read_json(path: str | os.PathLike) -> Any:
    """Raises BionasError, naming the file and the line, where it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BionasError(f"{path} is not there.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BionasError(f"{path} is not valid JSON ({error}).") from None
