"""The budget: wall time, over all the times a run was started, and the training images that it was spent on.

Both are kept at the one door through which images come. `TimedPlan` is a plan whose splits are watched: each training image
that is drawn is counted, and once the time is up the next draw raises `OutOfTime`. So whatever trains on such a plan
stops within a batch, and what it had finished by then is on disk. The test split is not behind that door at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from torch import Tensor

from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.images import ImageStore
from bionas.system import files
from bionas.training.configuration import Plan

KEPT_EVERY = 5.0
"""Seconds after which the time that was used is written to disk again."""


class OutOfTime(Exception):
    """The time is up. Caught by whoever knows what was best so far."""


class Clock:
    """Seconds and training images of a run. What an earlier start of it used is read from `path`.

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
        """Seconds until the end of the part that is being worked on; not below 0."""
        return max(0.0, self._end - self.used)

    @contextlib.contextmanager
    def until(self, share: float) -> Iterator[None]:
        """In this block the time is up when `share` of the whole is used."""
        self._end = share * self.seconds
        try:
            yield
        finally:
            self._end = self.seconds

    def saw(self, images: int) -> None:
        """Training images are about to be drawn.

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
        """Forget what earlier starts used: their work is lost, so it is not counted."""
        self._before, self._started, self.images = 0.0, monotonic(), 0

    def keep(self) -> None:
        """Write to disk what is used."""
        self._kept = monotonic()
        files.write_json(self.path, {"seconds": round(self.used, 3), "images": self.images})


class WatchedImages:
    """An `ImageStore` behind the door.

    Args:
        store: what it shows.
        counted: whether images that are drawn count as seen: those of training do, those only looked at do not.
    """

    def __init__(self, store: ImageStore, clock: Clock, counted: bool):
        self._store, self._clock, self._counted = store, clock, counted

    def __len__(self) -> int:
        return len(self._store)

    @property
    def size(self) -> int:
        return self._store.size

    @property
    def fingerprint(self) -> str:
        return self._store.fingerprint

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


@dataclasses.dataclass(frozen=True)
class TimedPlan(Plan):
    """A plan whose images are watched by a clock, and which has no test split."""

    clock: Clock = dataclasses.field(compare=False, repr=False)

    @classmethod
    def of(cls, plan: Plan, clock: Clock, **changes: Any) -> TimedPlan:
        """`plan` with `changes`, under `clock`."""
        choices = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
        return cls(**{**choices, **changes}, clock=clock)

    @cached_property
    def _watched(self) -> Splits:
        def watched(side: SpecimenSet, counted: bool) -> SpecimenSet:
            return dataclasses.replace(side, images=WatchedImages(side.images, self.clock, counted))

        train, val, _ = super().splits()
        return Splits(watched(train, counted=True), watched(val, counted=False), None)

    def splits(self) -> Splits:
        """Training and validation, watched; None for test."""
        return self._watched
