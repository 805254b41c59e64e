"""Batches of specimens (section IV: no augmentation, no re-sampling, no class weights; augmentation is an option).

`BatchLoader` gathers a batch from the image store by index in a background thread, a few batches ahead; images are uint8
until they are on the device, where they are augmented and normalised (`feeding`). The order of an epoch and every draw
of its augmentation depend on (seed, epoch) alone and never touch global random state, so epoch 7 of a resumed run is
epoch 7 of an uninterrupted one, bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bionas.errors import SpecimenError
from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.feeding import (
    AHEAD,
    MEAN,
    STD,
    Delivery,
    Parcel,
    RecycledMemory,
    normalised,
    prefetched,
)
from bionas.specimens.metadata import Metadata, MetadataEncoding

__all__ = ["AHEAD", "MEAN", "STD", "Batch", "BatchLoader", "normalised"]


MIN_IMAGES = 2
"""Batch normalisation needs two images in training."""


class Batch(NamedTuple):
    """B specimens: image float32 (B, 3, S, S), channels_last, or maps of it, None for records alone; metadata; label
    int64 (B,)."""

    image: Tensor | None
    metadata: Metadata
    label: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        image = None if self.image is None else self.image.to(device, non_blocking=non_blocking)
        return Batch(
            image, self.metadata.to(device, non_blocking), self.label.to(device, non_blocking=non_blocking)
        )


class BatchLoader:
    """Epochs of batches over a set of specimens, ready on the device.

    Args:
        specimens: N of them; their images are drawn from the store, their metadata are encoded once, here. Without
            images (records alone) `Batch.image` is None.
        encoding: the metadata encoding, fitted on training specimens.
        batch_size: B, over all processes; the last batch of an epoch is smaller, or left out with `drop_last`.
        shuffle: a new order each epoch; otherwise records come as they stand.
        seed: of order and augmentation.
        augment: a name of `AUGMENTATIONS`.
        device: where batches are used; images travel there as uint8.
        share: (rank, ranks): of each batch only this rank's part is drawn. The order is that of one process.
        resample: an epoch draws as many specimens with replacement, every class of `specimens` equally often.

    Raises:
        SpecimenError: no specimens, a batch size under 1, or one that the ranks cannot divide.
        UnknownName: no such augmentation.
    """

    def __init__(
        self,
        specimens: SpecimenSet,
        encoding: MetadataEncoding,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        augment: str = "none",
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        share: tuple[int, int] = (0, 1),
        resample: bool = False,
    ):
        if len(specimens) == 0 or batch_size < 1:
            raise SpecimenError(f"no batch of {batch_size} can be drawn from {len(specimens)} specimens.")
        if batch_size % share[1]:
            raise SpecimenError(
                f"a batch of {batch_size} cannot be divided among {share[1]} processes evenly. "
                f"Use a batch_size that is a multiple of {share[1]}."
            )
        self.specimens, self.batch_size, self.seed = specimens, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.device, self.share = torch.device(device), share
        self._resample = resample
        self._augment, self._augmented = AUGMENTATIONS[augment], augment != "none"
        self._metadata = encoding.table(specimens)
        self._labels = torch.from_numpy(specimens.labels.copy())
        self._memory = RecycledMemory()
        self._spare: list[Delivery] = []  # buffers of an epoch that is over, for the next

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.specimens), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0; the same epoch gives the same batches each time.

        An iterator that is closed or no longer referred to leaves no thread behind.
        """
        drawn, delivery, parcels = self._under_way(epoch)
        with contextlib.closing(parcels):
            for here, parcel in zip(self._places(), parcels, strict=True):
                arrived = delivery.receive(parcel)
                image = None
                if arrived.pixels is not None:
                    pixels = arrived.pixels.permute(0, 3, 1, 2)
                    if drawn is not None:
                        pixels = drawn_for(drawn, here, parcel.kept).applied(pixels)
                    image = self._float(pixels)
                    delivery.release(parcel)
                yield Batch(image, arrived.metadata, arrived.label)
        if delivery.at_rest:
            self._spare[:] = [delivery]
        if self.specimens.images is not None and (news := self.specimens.images.news()):
            print(news, flush=True)

    def _under_way(self, epoch: int) -> tuple[Any, Delivery, Generator[Parcel]]:
        """What the augmentation drew for the epoch, and its batches as uint8, gathered in the background."""
        n, images = len(self.specimens), self.specimens.images
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
        order = self._order(generator)
        varied = images.varied(generator) if images is not None and self._augmented else None
        drawn = None
        if varied is not None:
            images = varied
        elif images is not None:
            drawn = self._augment(n, images.size, generator)
        ahead = min(AHEAD, len(self))
        full = self.batch_size // self.share[1]
        shape = None if images is None else (min(full, n), *images.shape)
        fits = (d for d in self._spare if d.device == self.device)
        if (delivery := next(fits, None)) is None:
            dtype = torch.uint8 if images is None else images.dtype
            delivery = Delivery(shape, self.device, ahead, dtype)
        else:
            self._spare.remove(delivery)

        def gathered(here: slice) -> Parcel:
            rows = order[here]
            buffer, kept = None, None
            if images is not None:
                buffer = delivery.buffer()
                images.pixels(rows.numpy(), out=buffer[: len(rows)].numpy())
                kept = self._readable(images.readable(rows.numpy()))
                if kept is not None:
                    buffer[: len(kept)] = buffer[kept]
                    rows = rows[kept]
            sent = delivery.send(buffer, len(rows), self._metadata.take(rows), self._labels[rows])
            return sent._replace(kept=kept)

        jobs: Iterator[Callable[[], Parcel]] = (partial(gathered, here) for here in self._places())
        return drawn, delivery, prefetched(jobs, ahead)

    def _order(self, generator: torch.Generator) -> Tensor:
        """(N,) positions of an epoch."""
        n = len(self.specimens)
        if self._resample:
            counts = torch.bincount(self._labels)
            return torch.multinomial(1 / counts[self._labels].double(), n, True, generator=generator)
        return torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)

    def _float(self, pixels: Tensor) -> Tensor:
        """What the network sees: images normalised, maps in float32; in memory of its own."""
        if pixels.dtype == torch.uint8:
            return normalised(pixels, self._memory)
        return pixels.to(torch.float32, copy=True)

    def _readable(self, readable: np.ndarray | None) -> Tensor | None:
        """Which images of a batch are used, where some could not be read; None for all of them.

        Only a training batch of one process is shortened. Evaluation keeps its rows, and ranks keep batches of equal size:
        there the image is black. A batch that would be left with fewer than two images keeps them all.
        """
        if readable is None or not self.shuffle or self.share[1] > 1 or readable.sum() < MIN_IMAGES:
            return None
        return torch.from_numpy(np.flatnonzero(readable))

    def _places(self) -> Iterator[slice]:
        """Where this rank's part of each batch stands in the order of the epoch."""
        rank, ranks = self.share
        n = len(self.specimens)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            size = min(self.batch_size, n - start)
            yield slice(start + size * rank // ranks, start + size * (rank + 1) // ranks)


def drawn_for(drawn: Any, here: slice, kept: Tensor | None = None) -> Any:
    """The part of an epoch's draws that belongs to one batch."""
    parts = (part[here] for part in drawn)
    return type(drawn)(*(part if kept is None else part[kept] for part in parts))


def _mixed(seed: int, epoch: int) -> int:
    """One 63-bit seed from two numbers, so that (0, 1) and (1, 0) do not meet."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
