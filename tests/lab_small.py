"""Photographs and a model small enough for a test of the laboratory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image

from bionas import lab

ARCHITECTURE = "test_efficientnet"
"""timm's smallest network with batch normalisation."""

CLASSES = ("Coleoptera", "Diptera", "Odonata")
SIZE = 32


def photographs(folder: Path, n: int = 90, seed: int = 0, sub_folders: bool = True) -> list[Path]:
    """`n` photographs whose class shows in one colour channel, in one sub-folder per class."""
    generator = np.random.default_rng(seed)
    written = []
    for i in range(n):
        pixels = generator.integers(0, 180, (40, 40, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 70
        place = folder / CLASSES[i % 3] if sub_folders else folder
        place.mkdir(parents=True, exist_ok=True)
        written.append(place / f"IMG_{1000 + i}.png")
        Image.fromarray(pixels).save(written[-1])
    return written


def weights(folder: Path) -> Path:
    """Random weights of `ARCHITECTURE` in a file."""
    torch.manual_seed(0)
    path = folder / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model(ARCHITECTURE, num_classes=0).state_dict(), path)
    return path


def train(folder: Path, **options) -> lab.Model:
    """A model of `folder`/photographs in `folder`/model; photographs and weights are made where they are not there."""
    source = options.pop("photographs", folder / "photographs")
    if not source.exists():
        photographs(source)
    choices = {
        "model_kind": f"pretrained:{ARCHITECTURE}",
        "weights": weights(folder),
        "image_size": SIZE,
        "min_per_class": 1,
        "error_rate": 0.2,
        "say": None,
    }
    return lab.train(source, folder / "model", **(choices | options))
