"""Fine-tuning of a pretrained network within a budget of minutes.

`finetune` starts from the frozen network with its fitted head (linear probing, then fine-tuning: Kumar et al. 2022).
Layers at the start that hold few parameters but most of the computation stay at rest, and batch normalisation keeps its
statistics, so that a batch of 32 photographs on a laptop is enough. A run that was killed resumes from its last
checkpoint.
"""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.errors import CheckpointError
from bionas.lab.networks import Classifier
from bionas.specimens.collection import SpecimenSet
from bionas.system import files

BATCH = 32
LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING, CLIP_NORM = 5e-4, 1e-2, 0.1, 1.0
WARM_UP = 0.1
"""Share of the steps over which the rate rises."""

AT_REST = 0.05
"""Leading layers are not trained while they hold at most this share of the parameters."""

ZOOM, SHIFT, LIGHT = 0.7, 0.15, 0.2
"""Smallest crop as a share of the side, largest shift of its centre, largest change of brightness and contrast."""

TRIAL_STEPS = 3
"""Steps that are timed to turn minutes into steps; the first one is not counted."""

SAVE_SECONDS = 60.0
"""A checkpoint is written about this often."""


class Tuned(NamedTuple):
    """`steps` done, `epochs` these are, `seconds` of this and earlier starts."""

    steps: int
    epochs: float
    seconds: float


def rest_leading_layers(network: nn.Module) -> list[nn.Parameter]:
    """Freeze the leading parameters of a backbone; returns those that are trained."""
    parameters = list(network.parameters())
    total, passed, trained = sum(p.numel() for p in parameters), 0, []
    for parameter in parameters:
        passed += parameter.numel()
        parameter.requires_grad_(passed > AT_REST * total)
        if parameter.requires_grad:
            trained.append(parameter)
    return trained


def finetune(
    network: Classifier,
    train: SpecimenSet,
    *,
    minutes: float | None = None,
    epochs: float | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Tuned:
    """Train the head and the later layers of a network in place.

    Args:
        network: with its weights and a fitted head.
        train: the training photographs, at the network's size.
        minutes: time for it; the number of steps follows from the time the first ones take.
        epochs: passes over the photographs, in place of `minutes`.
        seed: of order and augmentation.
        checkpoint: file that a later start resumes from.
        progress: called with a sentence and the share that is done.

    Raises:
        CheckpointError: the checkpoint is damaged or of another training.
    """
    torch.manual_seed(seed)
    trained = [*rest_leading_layers(network.backbone), *network.head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    identity = {"photographs": len(train), "seed": seed, "minutes": minutes, "epochs": epochs}
    step, total, spent = 0, 0, 0.0
    if checkpoint is not None and Path(checkpoint).exists():
        step, total, spent = _resume(checkpoint, identity, network, optimizer)
    per_epoch = max(1, -(-len(train) // BATCH))
    if not total and epochs is not None:
        total = max(1, round(epochs * per_epoch))
    network.eval()  # batch normalisation and dropout as in evaluation
    started = saved = time.monotonic()
    timed = []
    while not total or step < total:
        before = time.monotonic()
        _set_rate(optimizer, step, total)
        images, labels = _batch(train, seed, step, per_epoch)
        logits = network(augmented(images, seed, step))
        loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()
        step += 1
        timed.append(time.monotonic() - before)
        if not total and len(timed) > TRIAL_STEPS:
            assert minutes is not None  # given where epochs are not
            total = max(step, int(60 * minutes / float(np.median(timed[1:]))))
        if progress is not None and total:
            progress(f"fine-tuning, step {step:,} of {total:,}", step / total)
        if checkpoint is not None and total and (step == total or time.monotonic() - saved > SAVE_SECONDS):
            saved = time.monotonic()
            _save(checkpoint, identity, network, optimizer, (step, total, spent + saved - started))
    network.requires_grad_(False)
    return Tuned(step, round(step / per_epoch, 2), spent + time.monotonic() - started)


def augmented(images: Tensor, seed: int, step: int) -> Tensor:
    """uint8 (B, 3, S, S) -> float of 0..255: mirrored, cropped and lit at random, depending on (seed, step) alone."""
    generator = torch.Generator().manual_seed((seed << 32) + step)
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    zoom, aspect = uniform(ZOOM, 1.0), uniform(0.9, 1.1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    place = torch.zeros(n, 2, 3)
    place[:, 0, 0], place[:, 1, 1] = zoom * aspect * mirror, zoom / aspect
    place[:, 0, 2], place[:, 1, 2] = uniform(-SHIFT, SHIFT), uniform(-SHIFT, SHIFT)
    pixels = images.float().contiguous(memory_format=torch.channels_last)
    grid = F.affine_grid(place, list(images.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    contrast, light = uniform(1 - LIGHT, 1 + LIGHT), uniform(1 - LIGHT, 1 + LIGHT)
    pixels = (pixels - mean) * contrast[:, None, None, None] + mean * light[:, None, None, None]
    return pixels.clamp(0, 255)


def _batch(train: SpecimenSet, seed: int, step: int, per_epoch: int) -> tuple[Tensor, Tensor]:
    epoch, number = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(train))
    chosen = np.sort(order[number * BATCH : (number + 1) * BATCH])
    return train.require_images().take(chosen), torch.from_numpy(train.labels[chosen])


def _set_rate(optimizer: torch.optim.Optimizer, step: int, total: int) -> None:
    """Linear warm-up, then a half cosine to zero; while the total is not known yet, the warm-up's first value."""
    if not total:
        share = 0.1
    elif step < WARM_UP * total:
        share = (step + 1) / (WARM_UP * total + 1)
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - WARM_UP * total) / ((1 - WARM_UP) * total)))
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE * share


def _save(
    path: str | os.PathLike,
    identity: dict,
    network: Classifier,
    optimizer: torch.optim.Optimizer,
    counts: tuple[int, int, float],
) -> None:
    state = {
        "identity": identity,
        "counts": counts,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with files.replacing(path) as file:
        torch.save(state, file)


def _resume(
    path: str | os.PathLike, identity: dict, network: Classifier, optimizer: torch.optim.Optimizer
) -> tuple[int, int, float]:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise ValueError("damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # zipfile and torch raise half a dozen kinds of error for a damaged file
        raise CheckpointError(f"{path} is damaged. Remove it: fine-tuning then starts again.") from error
    if found != identity:
        raise CheckpointError(
            f"{path} is of another fine-tuning ({found} there, {identity} now). Repeat the earlier command, or remove it."
        )
    step, total, spent = state["counts"]
    return int(step), int(total), float(spent)


def batches(n: int, size: int = BATCH) -> Iterator[np.ndarray]:
    """0..n-1 in runs of `size`."""
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))
