"""MD5 sums, computed once and stored beside the files, keyed by name, size and modification time."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from bionas.errors import BionasError
from bionas.system.files import read_json, write_json
from bionas.system.progress import progress

MEMORY = ".md5.json"
PIECE = 1 << 20


def md5_of(path: Path) -> str:
    """The MD5 of a file, from the stored sums where it has not changed."""
    known = remembered(path)
    if known is None:
        digest = hashlib.md5(usedforsecurity=False)
        feed(digest, path)
        known = digest.hexdigest()
        remember(path, known)
    return known


def remembered(path: Path) -> str | None:
    """The stored MD5 of this file, if it has not changed since."""
    fact = _memory(path).get(path.name)
    return (
        fact["md5"] if isinstance(fact, dict) and fact == {**_state(path), "md5": fact.get("md5")} else None
    )


def remember(path: Path, md5: str) -> None:
    write_json(path.with_name(MEMORY), {**_memory(path), path.name: {**_state(path), "md5": md5}})


def feed(digest, path: Path) -> None:
    """Put the bytes of a file into `digest`, with a progress bar where that takes a while."""
    size = path.stat().st_size
    bar = progress(total=size, desc=f"checking {path.name}", unit="B", unit_scale=True, leave=False, delay=2)
    with path.open("rb") as file, bar:
        while piece := file.read(PIECE):
            digest.update(piece)
            bar.update(len(piece))


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _memory(path: Path) -> dict:
    with contextlib.suppress(BionasError):
        if isinstance(memory := read_json(path.with_name(MEMORY)), dict):
            return memory
    return {}
