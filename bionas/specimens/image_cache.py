"""The image cache: every photograph decoded once to training resolution, kept as one .npy that is mapped into memory.

`image_cache` opens the cache of these photographs at this size and fit, or builds it: threads decode blocks of
photographs and write each in place into a file that is not yet called .npy. A journal records every block that is on
disk. After a kill, a power cut or a full disk the next call resumes with the blocks that the journal lacks; finished,
the file takes its name. One process builds, others wait for it.

Threads, since Pillow works outside of Python's lock for some 85 % of the time of a photograph: up to about seven
processors they do as well as processes, share the archives' indexes, and die with their owner. What is resident while a
cache is built are one block of pixels a thread and the names of the photographs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from tqdm import tqdm

from bionas.errors import BionasError, PhotographError
from bionas.specimens.decoding import FITS, RECIPE, Unreadable, decode
from bionas.specimens.images import ImageStore
from bionas.specimens.photographs import MISSING, Photographs
from bionas.system import locks, places
from bionas.system.files import NO_SPACE, read_json, write_json, write_text
from bionas.system.progress import progress

LAYOUT = 1
"""Raised when blocks or their hashes change: older caches are then not used."""

BLOCK_IMAGES, BLOCK_BYTES = 256, 8 * 2**20
SHA256_BYTES = 32


def image_cache(
    photographs: Photographs,
    size: int,
    fit: str = "stretch",
    cache_dir: str | os.PathLike | None = None,
    workers: int | None = None,
) -> tuple[ImageStore, dict[int, str]]:
    """All photographs as uint8 images, decoded now or taken from the cache.

    Args:
        photographs: N of them.
        size: side of an image in pixels.
        fit: how a photograph becomes a square: a name of `decoding.FITS`.
        cache_dir: where the cache is kept; None for the repository's own.
        workers: threads that decode; None for one a processor.

    Returns:
        The store, image i of photograph i, and position -> reason for those that are missing or could not be read:
        their image is black, and what becomes of them is the caller's decision. The store's fingerprint is that of
        the pixels.

    Raises:
        UnknownName: no such fit.
        BionasError: the cache folder cannot be written, or the disk is full; what was built is kept.
        SpecimenError: the photographs cannot be read any more (an archive cut short, a disk unplugged).
    """
    FITS[fit]
    cache_dir = places.cache() if cache_dir is None else Path(cache_dir)
    files = _files(photographs, size, fit, cache_dir)
    order = photographs.order()
    found = _cached(files, len(photographs), size)
    if found is None:
        with _alone(files, len(photographs), size):
            found = _cached(files, len(photographs), size)  # built by another process while this one waited
            if found is None:
                _build(photographs, order, size, fit, files, workers or processors())
                found = _cached(files, len(photographs), size)
    assert found is not None  # it was just built
    store, unreadable = found
    if (order == np.arange(len(order))).all():
        return store, unreadable
    row_of = np.empty_like(order)
    row_of[order] = np.arange(len(order))
    return store.subset(row_of), unreadable


def room_for(photographs: Photographs, size: int, fit: str, cache_dir: Path) -> tuple[int, int]:
    """Bytes that the cache of these photographs still needs (0 where it is there), and bytes that are free."""
    files = _files(photographs, size, fit, cache_dir)
    folder = next(path for path in (cache_dir.absolute(), *cache_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if _cached(files, len(photographs), size) is not None:
        return 0, free
    finished = 0
    with contextlib.suppress(FileNotFoundError):
        finished = files.journal.read_bytes().count(b"\n") * _block(len(photographs), size)
    return max(0, int(photographs.present.sum()) - finished) * size**2 * 3, free


def _files(photographs: Photographs, size: int, fit: str, cache_dir: Path) -> _Files:
    recipe = [LAYOUT, RECIPE, size, fit, len(photographs), photographs.key]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    return _Files(cache_dir, photographs.label, size, key)


class _Files:
    """The files of one cache: whole, or while it is built."""

    def __init__(self, folder: Path, label: str, size: int, key: str):
        stem = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', label)[:40]}-{size}px-{key[:16]}"
        self.key, self.label, self.folder = key, label, folder
        self.pixels, self.facts = folder / f"{stem}.npy", folder / f"{stem}.json"
        self.partial, self.journal = folder / f"{stem}.building", folder / f"{stem}.journal"
        self.lock = folder / f"{stem}.lock"


def _cached(files: _Files, n: int, size: int) -> tuple[ImageStore, dict[int, str]] | None:
    """The cache where it is whole and of this key, else None."""
    try:
        facts = read_json(files.facts)
        store = ImageStore.open(files.pixels, facts["fingerprint"])
        if facts["key"] == files.key and len(store) == n and store.size == size:
            return store, {int(position): reason for position, reason in facts["unreadable"].items()}
    except (BionasError, OSError, KeyError, TypeError, ValueError, AttributeError):
        pass
    return None


# Building


class _Block(NamedTuple):
    """A finished block: its number, the SHA-256 of its pixels, position -> reason of what could not be read."""

    number: int
    sha256: str
    unreadable: dict[int, str]


class _Layout(NamedTuple):
    """Which photographs (`order`) go where: blocks of `block` images, one after the other behind the .npy header."""

    photographs: Photographs
    present: np.ndarray
    order: np.ndarray
    size: int
    fit: str
    block: int
    header: bytes

    @property
    def blocks(self) -> int:
        return -(-len(self.order) // self.block)

    def positions(self, number: int) -> np.ndarray:
        return self.order[number * self.block : (number + 1) * self.block]

    def place(self, number: int) -> int:
        """Where the block begins in the file, bytes."""
        return len(self.header) + number * self.block * self.size**2 * 3


def _build(
    photographs: Photographs, order: np.ndarray, size: int, fit: str, files: _Files, workers: int
) -> None:
    """Decode what the journal does not have yet, then give the file its name."""
    n = len(order)
    plan = _Layout(
        photographs, photographs.present, order, size, fit, _block(n, size), _header((n, size, size, 3))
    )
    try:
        with _BlockFile(files.partial) as file:
            done = _resumed(plan, files, file)
            _require_space(plan, done, files)
            file.prepare(plan.header, plan.place(0) + n * size * size * 3)
            for finished in _decoded(plan, done, files, file, workers):
                done[finished.number] = finished
        digest = hashlib.sha256(json.dumps([n, size]).encode())
        unreadable: dict[str, str] = {}
        for number in range(plan.blocks):
            digest.update(bytes.fromhex(done[number].sha256))
            unreadable.update((str(position), reason) for position, reason in done[number].unreadable.items())
        facts = {"key": files.key, "fingerprint": digest.hexdigest(), "unreadable": unreadable}
        write_json(files.facts, facts)
        os.replace(files.partial, files.pixels)
        files.journal.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise BionasError(
                f"the image cache in {files.folder} cannot be written: {error.strerror}."
            ) from error
        raise BionasError(
            f"no space left in {files.folder} while the photographs of {files.label} were decoded. What is done is kept: "
            "free some space and run the same command again, it resumes."
        ) from error


class _BlockFile:
    """The .npy under construction, as an ordinary file that several threads write blocks of.

    Not a memory map: on a full disk a write is an error that can be caught, a touched page of a map ends the process.
    """

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self._file = path.open("r+b" if path.exists() else "w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written has been reported where it was written
            self._file.close()

    def begins_with(self, header: bytes, length: int) -> bool:
        """Whether this is the file that a build of that header and length left behind."""
        self._file.seek(0)
        return self._file.read(len(header)) == header and self._file.seek(0, os.SEEK_END) == length

    def prepare(self, header: bytes, length: int) -> None:
        """Header and full length; what is not written stays black, and takes no space where the disk allows."""
        self.write(header, 0)
        self._file.truncate(length)

    def write(self, content: bytes | memoryview, place: int) -> None:
        """Write at `place` bytes from the beginning; it is on disk afterwards."""
        with self._lock:
            self._file.seek(place)
            self._file.write(memoryview(content).cast("B"))
            self._file.flush()
            os.fsync(self._file.fileno())


def _decoded(
    plan: _Layout, done: dict[int, _Block], files: _Files, file: _BlockFile, workers: int
) -> Iterator[_Block]:
    """Decode and write the blocks that are not done; each is yielded once the journal has it."""
    journal = files.journal.open("ab", buffering=0)
    waiting = [number for number in range(plan.blocks) if number not in done]
    bar = _bar(f"decoding {files.label}", len(plan.order))
    pool = ThreadPoolExecutor(workers)
    try:
        bar.update(sum(len(plan.positions(number)) for number in done))
        for future in as_completed([pool.submit(_decode_block, plan, number, file) for number in waiting]):
            finished = future.result()
            journal.write((json.dumps(finished) + "\n").encode())
            bar.update(len(plan.positions(finished.number)))
            yield finished
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
        journal.close()


def _decode_block(plan: _Layout, number: int, file: _BlockFile) -> _Block:
    positions = plan.positions(number)
    pixels = np.zeros((len(positions), plan.size, plan.size, 3), dtype=np.uint8)
    unreadable: dict[int, str] = {}
    for row, position in enumerate(positions.tolist()):
        if not plan.present[position]:
            unreadable[position] = MISSING
            continue
        try:
            image = decode(plan.photographs.read(position), plan.size, plan.fit)
        except PhotographError as error:
            image = Unreadable(error.reason)
        if isinstance(image, Unreadable):
            unreadable[position] = image.reason
        else:
            pixels[row] = image
    if plan.present[positions].any():
        file.write(pixels.data, plan.place(number))
    return _Block(number, hashlib.sha256(pixels.data).hexdigest(), unreadable)


def _block(n: int, size: int) -> int:
    """Images a block: enough for a long stroke, few enough that small collections occupy several threads."""
    return max(1, min(BLOCK_IMAGES, max(8, n // 64), BLOCK_BYTES // (size * size * 3)))


def _header(shape: tuple[int, ...]) -> bytes:
    """What a .npy of uint8 (shape) begins with."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


# Going on


def _resumed(plan: _Layout, files: _Files, file: _BlockFile) -> dict[int, _Block]:
    """The blocks that the journal says are on disk; the journal keeps these alone.

    A block is recorded after it was flushed to the disk, so that the record holds after a power cut too. A line that was
    cut off is done again; where the file is not the one the journal belongs to, everything is.
    """
    done: dict[int, _Block] = {}
    if file.begins_with(plan.header, plan.place(0) + len(plan.order) * plan.size**2 * 3):
        with contextlib.suppress(FileNotFoundError):
            for line in files.journal.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    number, sha256, unreadable = json.loads(line)
                    reasons = {int(position): reason for position, reason in unreadable.items()}
                    if 0 <= number < plan.blocks and len(bytes.fromhex(sha256)) == SHA256_BYTES:
                        done[number] = _Block(number, sha256, reasons)
    write_text(files.journal, "".join(json.dumps(block) + "\n" for block in done.values()))
    return done


def _require_space(plan: _Layout, done: dict[int, _Block], files: _Files) -> None:
    """Raises BionasError where what is still to be decoded does not fit on the disk: better now than after hours."""
    todo = int(plan.present.sum()) - sum(int(plan.present[plan.positions(number)].sum()) for number in done)
    needed, free = todo * plan.size**2 * 3, shutil.disk_usage(files.folder).free
    if needed > free:
        raise BionasError(
            f"{todo:,} photographs at {plan.size} px need {needed / 1e9:.1f} GB in {files.folder}, {free / 1e9:.1f} GB are "
            "free. Free some space, name another cache_dir, or take a smaller image_size."
        )


def _bar(words: str, n: int) -> tqdm:
    return progress(total=n, desc=words, unit="image", leave=False, delay=2)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# One at a time


@contextlib.contextmanager
def _alone(files: _Files, n: int, size: int) -> Iterator[None]:
    """Hold the cache's lock; wait, showing the other's progress, while another process holds it."""
    bars: list[tqdm] = []

    def show() -> None:
        if not bars:
            bars.append(_bar(f"waiting for another process, which decodes {files.label}", n))
        with contextlib.suppress(FileNotFoundError):
            bars[0].update(min(n, files.journal.read_bytes().count(b"\n") * _block(n, size)) - bars[0].n)

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [bar.close() for bar in bars])
        stack.enter_context(locks.exclusive(files.lock, show))
        yield
