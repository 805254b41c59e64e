"""The image cache: every photograph decoded once to training resolution, kept as one .npy that is mapped into memory.

`image_cache` opens the cache of these photographs at this size and fit, or builds it: threads decode blocks of
photographs and write each in place into a file that is not yet called .npy. A journal holds the hash of every finished
block. After a kill, a power cut or a full disk the next call compares the blocks with their hashes and goes on from
there; finished, the file takes its name. One process builds, others wait for it.

Threads, since Pillow works outside of Python's lock for some 85 % of the time of a photograph: up to about seven
processors they do as well as processes, share the archives' indexes, and die with their owner. What is resident while a
cache is built are one block of pixels a thread and the names of the photographs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from bionas.errors import BionasError, PhotographError
from bionas.specimens.decoding import FITS, RECIPE, Unreadable, decode
from bionas.specimens.images import ImageStore
from bionas.specimens.photographs import MISSING, Photographs
from bionas.system import places
from bionas.system.files import NO_SPACE, read_json, write_json, write_text
from bionas.system.progress import progress

LAYOUT = 1
"""Raised when blocks or their hashes change: older caches are then not used."""

BLOCK_IMAGES, BLOCK_BYTES = 256, 8 * 2**20
POLL = 0.2  # seconds between two looks at another process's progress


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
    recipe = [LAYOUT, RECIPE, size, fit, len(photographs), photographs.key]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    files = _Files(cache_dir, photographs.label, size, key)
    order = photographs.order()
    found = _cached(files, len(photographs), size)
    if found is None:
        with _alone(files, len(photographs), size):
            found = _cached(files, len(photographs), size)  # built by another process while this one waited
            if found is None:
                _build(photographs, order, size, fit, files, workers or _processors())
                found = _cached(files, len(photographs), size)
    store, unreadable = found
    if (order == np.arange(len(order))).all():
        return store, unreadable
    row_of = np.empty_like(order)
    row_of[order] = np.arange(len(order))
    return store.subset(row_of), unreadable


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


class _Plan(NamedTuple):
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
    plan = _Plan(
        photographs, photographs.present, order, size, fit, _block(n, size), _header((n, size, size, 3))
    )
    file = None
    try:
        file = os.open(files.partial, os.O_RDWR | os.O_CREAT, 0o644)
        done = _resumed(plan, files, file, workers)
        _require_space(plan, done, files)
        os.ftruncate(
            file, plan.place(0) + n * size * size * 3
        )  # what is not written stays black, and takes no space
        _write(file, plan.header, 0)
        for finished in _decoded(plan, done, files, file, workers):
            done[finished.number] = finished
        os.fsync(file)
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
            "free some space and run the same command again, it goes on from there."
        ) from error
    finally:
        if file is not None:
            os.close(file)


def _decoded(
    plan: _Plan, done: dict[int, _Block], files: _Files, file: int, workers: int
) -> Iterator[_Block]:
    """Decode and write the blocks that are not done; each is yielded once the journal has it."""
    journal = os.open(files.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    waiting = [number for number in range(plan.blocks) if number not in done]
    bar = _bar(f"decoding {files.label}", len(plan.order))
    pool = ThreadPoolExecutor(workers)
    try:
        bar.update(sum(len(plan.positions(number)) for number in done))
        for future in as_completed([pool.submit(_decode_block, plan, number, file) for number in waiting]):
            finished = future.result()
            os.write(journal, (json.dumps(finished) + "\n").encode())
            bar.update(len(plan.positions(finished.number)))
            yield finished
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
        os.close(journal)


def _decode_block(plan: _Plan, number: int, file: int) -> _Block:
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
        _write(file, pixels, plan.place(number))
    return _Block(number, hashlib.sha256(pixels).hexdigest(), unreadable)


def _write(file: int, content: bytes | np.ndarray, place: int) -> None:
    rest = memoryview(content).cast("B")
    while len(rest):
        written = os.pwrite(file, rest, place)
        rest, place = rest[written:], place + written


def _block(n: int, size: int) -> int:
    """Images a block: enough for a long stroke, few enough that small collections occupy several threads."""
    return max(1, min(BLOCK_IMAGES, max(8, n // 64), BLOCK_BYTES // (size * size * 3)))


def _header(shape: tuple[int, ...]) -> bytes:
    """What a .npy of uint8 (shape) begins with."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


# Going on


def _resumed(plan: _Plan, files: _Files, file: int, workers: int) -> dict[int, _Block]:
    """The blocks that the journal calls finished and that are in the file as they were; the journal keeps these alone.

    A line that was cut off by a kill, and a block that a power cut took away, are done again.
    """
    said: dict[int, _Block] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in files.journal.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                number, sha256, unreadable = json.loads(line)
                if isinstance(number, int) and 0 <= number < plan.blocks:
                    said[number] = _Block(
                        number, sha256, {int(i): reason for i, reason in unreadable.items()}
                    )
    if not said:
        write_text(files.journal, "")
        return {}
    with (
        _bar(f"checking what was decoded of {files.label}", len(plan.order)) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        done = {}
        for block, whole in zip(
            said.values(), pool.map(lambda one: _is_whole(plan, one, file), said.values()), strict=True
        ):
            bar.update(len(plan.positions(block.number)))
            if whole:
                done[block.number] = block
    write_text(files.journal, "".join(json.dumps(block) + "\n" for block in done.values()))
    return done


def _is_whole(plan: _Plan, block: _Block, file: int) -> bool:
    start = plan.place(block.number)
    length = len(plan.positions(block.number)) * plan.size**2 * 3
    content = bytearray(length)
    at = 0
    while at < length and (read := os.preadv(file, [memoryview(content)[at:]], start + at)):
        at += read
    return hashlib.sha256(content).hexdigest() == block.sha256


def _require_space(plan: _Plan, done: dict[int, _Block], files: _Files) -> None:
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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# One at a time


@contextlib.contextmanager
def _alone(files: _Files, n: int, size: int) -> Iterator[None]:
    """Hold the cache's lock; wait, showing the other's progress, while another process holds it.

    The system lets go of a lock when its owner dies. The file itself is removed by the owner; a process that meanwhile
    waited for the removed one looks for the new.
    """
    lock, bar = None, None
    try:
        while lock is None:
            files.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), os.stat(files.lock)):
                        break
            except BlockingIOError:
                owner = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
                bar = bar or _bar(f"waiting for {owner}, which decodes {files.label}", n)
                with contextlib.suppress(FileNotFoundError):
                    bar.update(min(n, files.journal.read_bytes().count(b"\n") * _block(n, size)) - bar.n)
                time.sleep(POLL)
            os.close(lock)
            lock = None
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except OSError as error:
        if lock is not None:
            os.close(lock)
        raise BionasError(f"cannot write in {files.folder}: {error.strerror}.") from error
    finally:
        if bar is not None:
            bar.close()
    try:
        yield
    finally:
        files.lock.unlink(missing_ok=True)
        os.close(lock)
