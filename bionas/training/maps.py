"""Maps of a pretrained stem, computed once per photograph and kept on disk.

A frozen stem gives the same maps in every epoch of every candidate, so that `Maps.of` computes them once for a collection
and the cells are trained on these. With augmentation there are a few fixed variants of each photograph: the first as it
is, the others flipped and shifted; an epoch draws one of each.

Maps are kept as float16, rounded from float32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.images import Images
from bionas.specimens.loader import drawn_for, normalised
from bionas.system import files, locks
from bionas.system.progress import progress
from bionas.training.stems import Published, untrained

BATCH = 8
"""Photographs per pass: on a CPU the maps of more do not stay in its cache, and each takes longer."""

VARIANTS_SEED = 0
"""Of the fixed variants: they are the same for every seed of a run."""

LAYOUT = 1
"""Raised when the same stem and photographs give other files: older ones are then not used."""


class StemMaps:
    """Maps of N photographs in K variants, drawn like images (`specimens.images.Images`).

    Args:
        maps: float16 (N, K, h, w, M), an array or a memory map.
        photographs: what they were made of.
        fingerprint: of `maps`.
        rows: which of the N, in which order; None for all.
        variants: which of the K, for each of the rows; None for the first.
    """

    dtype = torch.float16

    def __init__(
        self,
        maps: np.ndarray,
        photographs: Images,
        fingerprint: str,
        rows: np.ndarray | None = None,
        variants: np.ndarray | None = None,
    ):
        self._maps, self._of_whole = maps, fingerprint
        self.photographs_of_maps = photographs
        self._rows = np.arange(len(maps)) if rows is None else rows
        self._variants = np.zeros_like(self._rows) if variants is None else variants

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Places along a side."""
        return self._maps.shape[2]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, M)"""
        return self._maps.shape[2], self._maps.shape[3], self._maps.shape[4]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex of which maps these are, in which order."""
        chosen = np.stack([self._rows, self._variants]).astype("<i8")
        return hashlib.sha256(self._of_whole.encode() + chosen.tobytes()).hexdigest()

    def subset(self, positions: np.ndarray) -> StemMaps:
        """The maps at `positions`, in that order."""
        positions = np.asarray(positions, dtype=np.int64)
        part = self.photographs_of_maps.subset(positions)
        return StemMaps(self._maps, part, self._of_whole, self._rows[positions], self._variants[positions])

    def varied(self, generator: torch.Generator) -> StemMaps:
        """One of the K variants of each."""
        drawn = torch.randint(self._maps.shape[1], (len(self),), generator=generator).numpy()
        return StemMaps(self._maps, self.photographs_of_maps, self._of_whole, self._rows, drawn)

    def pixels(self, positions: np.ndarray | list[int], out: np.ndarray | None = None) -> np.ndarray:
        """float16 (n, h, w, M), in `out` where it is given.

        Raises:
            IndexError: a position outside 0..N-1.
        """
        positions = np.asarray(positions, dtype=np.int64)
        found = self._maps[self._rows[positions], self._variants[positions]]
        if out is None:
            return found
        out[:] = found
        return out

    def take(self, positions: np.ndarray | list[int] | Tensor) -> Tensor:
        """float16 (n, M, h, w), laid out in memory as channels_last."""
        return torch.from_numpy(self.pixels(np.asarray(positions))).permute(0, 3, 1, 2)

    def readable(self, positions: np.ndarray) -> np.ndarray | None:
        """None: the photographs were read when the maps were made."""
        return None

    def news(self) -> str:
        """Nothing."""
        return ""


class Maps(NamedTuple):
    """Which maps: of a stem's `weights`, for images of a side, in so many `variants`, all but the first by `augment`."""

    weights: Published
    image_size: int
    variants: int = 1
    augment: str = "none"

    @property
    def key(self) -> str:
        """What makes them these maps, apart from the photographs."""
        augment = self.augment if self.variants > 1 else ""
        identity = [
            LAYOUT,
            self.weights.stage,
            self.weights.fingerprint,
            self.image_size,
            self.variants,
            augment,
        ]
        return json.dumps(identity)

    def of(self, specimens: SpecimenSet, folder: Path, device: torch.device | str = "cpu") -> SpecimenSet:
        """The specimens with these maps in place of their photographs; computed now, or taken from `folder`.

        Args:
            device: where they are computed.

        Raises:
            BionasError: the folder cannot be written, or the disk is full.
        """
        images, stage = specimens.require_images(), self.weights.stage
        key = hashlib.sha256(f"{self.key} {images.fingerprint}".encode()).hexdigest()
        path = folder / f"maps-{stage.architecture}-{stage.number}-{key[:16]}.npy"
        with locks.exclusive(path.with_suffix(".lock")):
            if not path.exists():
                for part in folder.glob(f".{path.name}.*.part"):  # of a process that was killed
                    part.unlink()
                self._compute(path, images, torch.device(device))
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
        return dataclasses.replace(specimens, images=StemMaps(maps, images, key))

    @torch.inference_mode()
    def _compute(self, path: Path, images: Images, device: torch.device) -> None:
        """Write the maps of all images, float16 (N, K, h, w, M), under a temporary name first."""
        n = len(images)
        stages = untrained(self.weights.stage).eval()
        stages.load_state_dict(self.weights.state)
        stages.to(memory_format=torch.channels_last).to(device)
        generator = torch.Generator().manual_seed(VARIANTS_SEED)
        moves = [AUGMENTATIONS[self.augment](n, images.size, generator) for _ in range(self.variants - 1)]
        begun = False
        with (
            files.replacing(path) as file,
            progress(total=n, desc="maps of the stem", unit="photograph") as bar,
        ):
            for start in range(0, n, BATCH):
                here = slice(start, min(start + BATCH, n))
                pixels = images.take(np.arange(here.start, here.stop)).to(device)
                made = [pixels, *(drawn_for(move, here).applied(pixels) for move in moves)]
                maps = [stages(normalised(one)).half().permute(0, 2, 3, 1).cpu().numpy() for one in made]
                block = np.ascontiguousarray(np.stack(maps, axis=1))
                if not begun:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (n, *block.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                    begun = True
                file.write(block.astype("<f2", copy=False).tobytes())
                bar.update(len(block))
