"""Extraction of a ZIP: only inside its folder, every file whole, present files skipped.

Every member is looked at before the first is written. Each is written under a temporary name and renamed, so that what
has its name is complete; a second run continues with those that are missing or of another size.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from bionas.errors import FetchError
from bionas.specimens.fetch import disk
from bionas.system.files import NO_SPACE
from bionas.system.progress import progress

PIECE = 1 << 20


def extract(archive: Path, folder: Path, drop: str = "") -> int:
    """Extract `archive` into `folder`, without the leading folder `drop` of its members.

    Returns how many members were written; those already there in the right size are left alone.

    Raises:
        FetchError: the archive is cut short, a member is damaged or would be written outside `folder` or is no plain
            file, two members have one name, or the disk has not the room.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(archive, opened, drop)
            todo = [
                (info, folder / name)
                for name, info in members.items()
                if not _there(folder / name, info.file_size)
            ]
            needed = sum(info.file_size for info, _ in todo)
            disk.require(folder, needed, f"extracting {archive.name}")
            bar = progress(
                total=needed,
                desc=f"extracting {archive.name}",
                unit="B",
                unit_scale=True,
                leave=False,
                delay=2,
            )
            with bar:
                for info, target in todo:
                    _write(opened, info, target)
                    bar.update(info.file_size)
            return len(todo)
    except zipfile.BadZipFile as error:
        raise FetchError(
            f"{archive} is cut short, damaged, or no ZIP ({error}). Remove it and fetch it again."
        ) from error


def _checked(archive: Path, opened: zipfile.ZipFile, drop: str) -> dict[str, zipfile.ZipInfo]:
    """Name under the folder -> member, for every file in the archive."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        written = info.orig_filename  # as the archive has it; zipfile itself stops at \0
        name = written.removeprefix(f"{drop}/") if drop else written
        if info.is_dir() and not (name := name.rstrip("/")):
            continue
        if fault := _fault(name, info):
            raise FetchError(
                f"{archive.name} holds {written!r}, which {fault}. Nothing was extracted: this is not the published "
                "archive."
            )
        if info.is_dir():
            continue
        if name in members:
            raise FetchError(f"{archive.name} holds {name!r} twice. Nothing was extracted.")
        members[name] = info
    return members


def _fault(name: str, info: zipfile.ZipInfo) -> str:
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in name.split("/"):
        return "leads out of its folder"
    if "\0" in name or "\\" in name or {"", "."} & set(name.split("/")):
        return "is no name for a file"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or another special file"
    return "is encrypted" if info.flag_bits & 1 else ""


def _there(path: Path, size: int) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = path.stat()
        return stat.S_ISREG(status.st_mode) and status.st_size == size
    return False


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Not flushed to the disk one by one, as `files.replacing` does: millions of them would take hours, and a file that
    a power cut left empty is not of the right size the next time."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}-0.part")
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(info) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, PIECE)
        os.replace(temporary, target)
    except (EOFError, zlib.error, struct.error, NotImplementedError) as error:
        raise zipfile.BadZipFile(f"{info.filename}: {error}") from error
    except OSError as error:
        reason = "no space left" if error.errno in NO_SPACE else error.strerror
        raise FetchError(
            f"cannot write {target}: {reason}. What was extracted stays; the same command resumes."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
