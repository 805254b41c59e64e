"""Free disk space, checked before anything is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bionas.errors import FetchError


def text(size: float | None) -> str:
    """A number of bytes in words: 2,219,000,000 -> "2.2 GB"; None -> "unknown"."""
    if size is None:
        return "unknown"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5 or unit == "TB":
            return f"{size:.0f} {unit}" if unit in ("bytes", "kB") or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def free(folder: str | os.PathLike) -> int:
    """Bytes free where `folder` is, or will be made."""
    folder = Path(folder).absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def require(folder: str | os.PathLike, needed: int, purpose: str, remedy: str = "") -> None:
    """
    Raises:
        FetchError: less than `needed` bytes are free in `folder`; the message says how much is missing.
    """
    available = free(folder)
    if needed > available:
        raise FetchError(
            f"{purpose} needs {text(needed)}; {text(available)} are free in {folder}: {text(needed - available)} are "
            f"missing. {remedy or 'Free some space, or choose another folder.'}"
        )
