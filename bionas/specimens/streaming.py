"""Photographs decoded whenever a batch asks for them: the image store for collections larger than the disk.

`StreamedImages` has the interface of `ImageStore` and keeps nothing on disk. With the decoder "fast" (the default, DCT
scaling) its pixels differ slightly from those of the decoded store, with "exact" they are the same and take about twice the
processor time. `open_images` chooses between the two stores.

A photograph that cannot be read is found only when it is drawn: it is black, recorded, left out of training batches by
the loader, and refused once more than `max_unreadable` of the collection are like it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bionas.errors import PhotographError, SpecimenError, UnknownName
from bionas.specimens.decoding import DECODERS, FITS, RECIPE, Unreadable, decode
from bionas.specimens.image_cache import image_cache, processors, room_for
from bionas.specimens.images import ImageStore
from bionas.specimens.photographs import MISSING, Photographs
from bionas.system import places

IMAGE_STORES = ("auto", "decoded", "stream")
IMAGE_STORE_CHOICES = (*IMAGE_STORES, *(f"stream:{name}" for name in DECODERS))
DECODER = "fast"
"""What `stream` decodes with where nothing else is said: every epoch pays for it."""

PIECE = 4  # photographs that one thread decodes at a time
SHOWN = 5  # unreadable photographs that a message lists
DISK_SHARE = 0.9
"""How much of the free disk a cache of decoded images may take before `auto` streams instead."""


class StreamedImages:
    """N photographs as uint8 images of S x S pixels, decoded when asked for.

    Args:
        photographs: N of them.
        size: side of an image in pixels.
        fit: how a photograph becomes a square: a name of `decoding.FITS`.
        decoder: a name of `decoding.DECODERS`, `DECODER` by default; "exact" gives the pixels of the decoded store.
        workers: threads that decode; None for one per processor.
        max_unreadable: share of photographs that may be unreadable before an epoch is refused.

    Raises:
        UnknownName: no such fit, no such decoder.
    """

    dtype = torch.uint8

    def __init__(
        self,
        photographs: Photographs,
        size: int,
        fit: str = "stretch",
        decoder: str = DECODER,
        workers: int | None = None,
        max_unreadable: float = 0.05,
    ):
        for registry, name in ((FITS, fit), (DECODERS, decoder)):
            if name not in registry:
                raise UnknownName(registry.kind, name, registry)
        self.photographs, self.size = photographs, size
        self.max_unreadable = max_unreadable
        self.unreadable: dict[int, str] = {}
        self._decode = partial(decode, size=size, fit=fit, decoder=decoder)
        self._recipe = ["stream", RECIPE, size, fit, decoder]
        self._workers = workers or processors()
        self._positions: np.ndarray | None = None
        self._lock = threading.Lock()
        self._reported: set[int] = set()

    def __len__(self) -> int:
        return len(self.photographs) if self._positions is None else len(self._positions)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, S, 3)"""
        return self.size, self.size, 3

    def varied(self, generator: torch.Generator) -> None:
        """None: images are augmented when they are drawn."""

    def subset(self, positions: np.ndarray) -> StreamedImages:
        """The images at `positions`, in that order; photographs and the record of unreadable ones are shared."""
        part = StreamedImages.__new__(StreamedImages)
        part.__dict__ |= vars(self)
        part.__dict__.pop("_fingerprint", None)
        part._positions = self._rows(np.asarray(positions, dtype=np.int64))
        return part

    def pixels(self, positions: np.ndarray | list[int], out: np.ndarray | None = None) -> np.ndarray:
        """uint8 (n, S, S, 3), in `out` where it is given; photographs that cannot be read are black.

        Raises:
            IndexError: a position outside 0..N-1.
            SpecimenError: none can be read any more, or more than `max_unreadable` of the collection cannot be.
        """
        rows = self._rows(np.asarray(positions, dtype=np.int64))
        images = np.empty((len(rows), self.size, self.size, 3), dtype=np.uint8) if out is None else out
        pieces = [slice(start, start + PIECE) for start in range(0, len(rows), PIECE)]
        threads = min(self._workers, len(pieces))
        with contextlib.ExitStack() as stack:
            each = stack.enter_context(ThreadPoolExecutor(threads)).map if threads > 1 else map
            failures = dict(
                pair for found in each(partial(self._piece, rows, images), pieces) for pair in found
            )
        if failures:
            self._record(failures)
        return images

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        """uint8 (n, 3, S, S), laid out in memory as channels_last."""
        return torch.from_numpy(self.pixels(np.asarray(positions))).permute(0, 3, 1, 2)

    def readable(self, positions: np.ndarray) -> np.ndarray | None:
        """bool (n,), False for photographs that turned out to be unreadable; None where all of them are readable."""
        if not self.unreadable:
            return None
        rows = self._rows(np.asarray(positions, dtype=np.int64))
        found = np.array([row not in self.unreadable for row in rows.tolist()], dtype=bool)
        return None if found.all() else found

    def news(self) -> str:
        """One sentence on photographs that were found unreadable since the last call; "" where there are none."""
        with self._lock:
            new = sorted(self.unreadable.keys() - self._reported)
            self._reported.update(new)
        return f"{self._summary(new)}. They are skipped." if new else ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 hex of which photographs these are (names, sizes, times), how they are decoded, in which order."""
        if "_fingerprint" not in vars(self):
            digest = hashlib.sha256(json.dumps([*self._recipe, self.photographs.key]).encode())
            if self._positions is not None:
                digest.update(np.ascontiguousarray(self._positions, dtype="<i8").data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self)):
            raise IndexError(
                f"positions {positions.min()} to {positions.max()} in a store of {len(self)} images"
            )
        return positions if self._positions is None else self._positions[positions]

    def _piece(self, rows: np.ndarray, images: np.ndarray, here: slice) -> list[tuple[int, str]]:
        """Decode some photographs of a batch into their places; (photograph, reason) of those that failed."""
        failed = []
        for place, row in enumerate(rows[here].tolist(), start=here.start):
            try:
                image = self._decode(self.photographs.read(row))
            except PhotographError as error:
                image = Unreadable(error.reason)
            if isinstance(image, Unreadable):
                images[place] = 0
                failed.append((row, image.reason))
            else:
                images[place] = image
        return failed

    def _record(self, failures: dict[int, str]) -> None:
        with self._lock:
            self.unreadable |= failures
            share = len(self.unreadable) / len(self.photographs)
        if share > self.max_unreadable:
            raise SpecimenError(
                f"{self._summary(sorted(self.unreadable))}. More than max_unreadable={self.max_unreadable:.1%} are damaged: "
                "copy them again from the original, or raise max_unreadable."
            )

    def _summary(self, listed: list[int]) -> str:
        n, whole = len(self.unreadable), len(self.photographs)
        names = ", ".join(f"{self.photographs.name(i)} ({self.unreadable[i]})" for i in listed[:SHOWN])
        more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
        return f"{n:,} of {whole:,} photographs cannot be read ({n / whole:.1%}): {names}{more}"


def open_images(
    photographs: Photographs,
    size: int,
    fit: str = "stretch",
    cache_dir: str | os.PathLike | None = None,
    workers: int | None = None,
    image_store: str = "auto",
    max_unreadable: float | str = 0.05,
) -> tuple[ImageStore | StreamedImages, dict[int, str]]:
    """The images of a collection: decoded once into a cache, or streamed where that cache would not fit on the disk.

    Args:
        image_store: "decoded", "stream" (or "stream:exact" for another of `decoding.DECODERS`), or "auto": decoded where
            the cache is there or would fit, else streamed; the choice and both sizes are printed.
        The others are those of `image_cache` and `StreamedImages`.

    Returns:
        The store, and position -> reason for the photographs that are known to be missing or unreadable. Of a streamed
        store only the missing ones are known beforehand.

    Raises:
        As `image_cache`; UnknownName: no such store; SpecimenError: a size, a number of workers or a share that is none.
    """
    require_numbers(size, workers, max_unreadable)
    kind, _, decoder = image_store.partition(":")
    if kind not in IMAGE_STORES:
        raise UnknownName("image_store", image_store, IMAGE_STORES)
    if kind == "auto":
        folder = places.cache() if cache_dir is None else Path(cache_dir)
        needed, free = room_for(photographs, size, fit, folder)
        kind = "stream" if needed > DISK_SHARE * free else "decoded"
        if kind == "stream":
            print(
                f"{photographs.label}: the decoded images would take {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free "
                f"in {folder}. The photographs are decoded in every epoch instead, which takes no disk and more processor "
                "time (image_store=stream; a smaller image_size, or cache_dir on another disk, changes that). Their pixels differ "
                "slightly from decoded ones; image_store=stream:exact gives the same at about half the speed.",
                flush=True,
            )
    if kind == "decoded":
        return image_cache(photographs, size, fit, cache_dir, workers)
    store = StreamedImages(
        photographs, size, fit, decoder or DECODER, workers, max_unreadable=float(max_unreadable)
    )
    return store, {int(position): MISSING for position in np.flatnonzero(~photographs.present)}


def require_numbers(size: int, workers: int | None, max_unreadable: float | str) -> None:
    """
    Raises:
        SpecimenError: a side or a number of threads below 1, or a share outside 0 to 1; the message says what to write.
    """
    for name, value in (("image_size", size), ("workers", workers)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1
        ):
            raise SpecimenError(f"{name}={value!r}: give a whole number of 1 or more.")
    try:
        share = float(max_unreadable)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise SpecimenError(
            f"max_unreadable={max_unreadable!r} is not a share of the photographs: give a number from 0 to 1 with a "
            "decimal point, such as 0.05."
        )
