"""The budget: wall time over all starts of a run, and the training images that were drawn in it.

`watched` returns splits whose images report to a `Clock`: each training image that is drawn is counted, and once the time is
up the next draw raises `OutOfTime`. Whatever trains on such splits stops within a batch, and what it had finished by then
is on disk. Watched splits have no test side.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.images import Images
from bionas.system import files

KEPT_EVERY = 5.0
"""Seconds after which the time used is written to disk again."""


class OutOfTime(Exception):
    """The time is up; caught by the code that holds the best result so far."""


class Clock:
    """Seconds and training images of a run; what earlier starts used is read from `path`.

    Args:
        path: clock.json of the run.
        minutes: of wall time, from the first start to the last.

    Attributes:
        images: training images drawn so far.
    """

    def __init__(self, path: Path, minutes: float):
        before = files.read_json(path) if path.exists() else {"seconds": 0.0, "images": 0}
        self.path, self.seconds, self.images = path, 60 * minutes, before["images"]
        self._before, self._started, self._end = before["seconds"], monotonic(), self.seconds
        self._kept = self._started

    @property
    def used(self) -> float:
        """Seconds."""
        return self._before + monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the end of the current part (`until`); not below 0."""
        return max(0.0, self._end - self.used)

    @contextlib.contextmanager
    def until(self, share: float) -> Iterator[None]:
        """Context in which the time is up when `share` of the whole is used."""
        self._end = share * self.seconds
        try:
            yield
        finally:
            self._end = self.seconds

    def saw(self, images: int) -> None:
        """Count training images that are about to be drawn.

        Raises:
            OutOfTime: the time is up.
        """
        if self.used >= self._end:
            self.keep()
            raise OutOfTime(f"{self._end / 60:.3g} minutes are used")
        self.images += images
        if monotonic() - self._kept > KEPT_EVERY:
            self.keep()

    def restart(self) -> None:
        """Reset to zero: the work of earlier starts is lost, so it is not counted."""
        self._before, self._started, self.images = 0.0, monotonic(), 0

    def keep(self) -> None:
        """Write what is used to disk."""
        self._kept = monotonic()
        files.write_json(self.path, {"seconds": round(self.used, 3), "images": self.images})


class WatchedImages:
    """An image store that reports every draw to a clock.

    Args:
        store: the images.
        counted: whether drawn images count as training images; those of validation do not.
    """

    def __init__(self, store: Images, clock: Clock, counted: bool):
        self._store, self._clock, self._counted = store, clock, counted

    def __len__(self) -> int:
        return len(self._store)

    @property
    def size(self) -> int:
        return self._store.size

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._store.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._store.dtype

    @property
    def fingerprint(self) -> str:
        return self._store.fingerprint

    def varied(self, generator: torch.Generator) -> WatchedImages | None:
        store = self._store.varied(generator)
        return None if store is None else WatchedImages(store, self._clock, self._counted)

    def subset(self, positions: np.ndarray) -> WatchedImages:
        return WatchedImages(self._store.subset(positions), self._clock, self._counted)

    def pixels(self, positions: np.ndarray | list[int], out: np.ndarray | None = None) -> np.ndarray:
        self._clock.saw(len(positions) if self._counted else 0)
        return self._store.pixels(positions, out)

    def readable(self, positions: np.ndarray) -> np.ndarray | None:
        return self._store.readable(positions)

    def news(self) -> str:
        return self._store.news()

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        self._clock.saw(len(positions) if self._counted else 0)
        return self._store.take(positions)


def watched(splits: Splits, clock: Clock) -> Splits:
    """Training and validation specimens whose images report to `clock`; None for test."""

    def side(specimens: SpecimenSet, counted: bool) -> SpecimenSet:
        return dataclasses.replace(
            specimens, images=WatchedImages(specimens.require_images(), clock, counted)
        )

    withheld = cast(SpecimenSet, None)  # a companion that asks for the test split fails
    return Splits(side(splits.train, counted=True), side(splits.val, counted=False), withheld)
