"""Batches from memory (section IV: no augmentation, no re-sampling, no class weights; augmentation is an option).

`BatchLoader` gathers a batch from the image store by index, in this process: at training resolution that costs less
than handing the work to others. The order of an epoch and every draw of its augmentation depend on (seed, epoch) alone
and never touch global random state, so epoch 7 of a resumed run is epoch 7 of an uninterrupted one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bionas.errors import SpecimenError
from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.metadata import Metadata, MetadataEncoding

MEAN, STD = 0.5, 0.25
"""Normalisation of every channel, of intensities in 0..1: the network sees -2..2."""


class Batch(NamedTuple):
    """B specimens: image float32 (B, 3, S, S), channels_last, None for records alone; metadata; label int64 (B,)."""

    image: Tensor | None
    metadata: Metadata
    label: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        image = None if self.image is None else self.image.to(device, non_blocking=non_blocking)
        return Batch(
            image, self.metadata.to(device, non_blocking), self.label.to(device, non_blocking=non_blocking)
        )


class BatchLoader:
    """Epochs of batches over a set of specimens.

    Args:
        specimens: N of them; their images are drawn from the store, their metadata are encoded once, here. Without
            images (records alone) `Batch.image` is None.
        encoding: the metadata encoding, fitted on training specimens.
        batch_size: B; the last batch of an epoch is smaller, or left out with `drop_last`.
        shuffle: a new order each epoch; otherwise records come as they stand.
        seed: of order and augmentation.
        augment: a name of `AUGMENTATIONS`.

    Raises:
        SpecimenError: no specimens, or a batch size under 1.
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
    ):
        if len(specimens) == 0 or batch_size < 1:
            raise SpecimenError(f"no batch of {batch_size} can be drawn from {len(specimens)} specimens.")
        self.specimens, self.batch_size, self.seed = specimens, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self._augment = AUGMENTATIONS[augment]
        self._metadata = encoding.table(specimens)
        self._labels = torch.from_numpy(specimens.labels.copy())

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(len(self.specimens), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0; asked twice, they are the same."""
        n = len(self.specimens)
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        images = self.specimens.images
        drawn = None if images is None else self._augment(n, images.size, generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            here = slice(start, start + self.batch_size)
            rows = order[here]
            pixels = None if images is None else images.take(rows)
            if drawn is not None:
                pixels = type(drawn)(*(part[here] for part in drawn)).applied(pixels)
            yield Batch(
                None if pixels is None else normalised(pixels), self._metadata.take(rows), self._labels[rows]
            )


def normalised(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) -> float32 (B, 3, S, S), channels_last, (x / 255 - MEAN) / STD."""
    scaled = pixels.to(torch.float32).mul_(1 / (255 * STD)).sub_(MEAN / STD)
    return scaled.contiguous(memory_format=torch.channels_last)


def _mixed(seed: int, epoch: int) -> int:
    """One 63-bit seed from two numbers, so that (0, 1) and (1, 0) do not meet."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
