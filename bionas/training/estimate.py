"""How long a run will take here, from a timed trial step: before it starts, and for collections that are not here.

`trial_steps` times the three kinds of step of a plan on random inputs: w and theta of the supernet, and the retraining of
a random genotype. `estimate` multiplies them up to a collection, BIOSCAN-5M by default, beside what the paper states.
`what_it_takes` is what a run of mode `full` prints before it starts.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.genotype import Genotype
from bionas.network import SearchNetwork
from bionas.specimens.image_cache import processors
from bionas.specimens.metadata import Metadata
from bionas.specimens.streaming import StreamedImages
from bionas.training.configuration import Plan
from bionas.training.loop import chosen_device

BIOSCAN_5M = 5_150_850
"""Photographs of BIOSCAN-5M."""
TRAINING_SHARE = 0.7
"""Of the paper's split."""
PAPER_HOURS, PAPER_DEVICE = 10.0, "one 12 GB card"
"""What the paper states for its training; it does not say whether the search is in it."""
TRIAL_IMAGES = {"cuda": 64, "mps": 16, "cpu": 4}
"""Images of a trial step where the plan's batch is larger, or automatic: time per image is taken to be the same."""
REPEATS = 3


class Trial(NamedTuple):
    """Seconds per image of one kind of step, and how many images per batch it was timed with."""

    w: float
    theta: float
    retraining: float
    images: int
    device: str


def trial_steps(plan: Plan) -> Trial:
    """Time the steps of a plan on random inputs; takes a few seconds, at preset `paper` on a CPU a minute."""
    device = chosen_device(plan.device)
    images = TRIAL_IMAGES[device.type]
    if plan.batch_size != "auto":
        images = min(images, int(plan.batch_size))
    with torch.random.fork_rng():
        supernet = plan.supernet().to(device)
        config = plan.network()
        genotype = Genotype.random(
            config.cells, config.reductions, plan.primitive_set, np.random.default_rng(plan.seed)
        )
        derived = plan.derived(genotype).to(device)
        inputs = _random_inputs(plan, images, device)
        w = _seconds(supernet, supernet.weights(), supernet.architecture(), *inputs)
        theta = _seconds(supernet, supernet.architecture(), supernet.weights(), *inputs)
        retraining = _seconds(derived, list(derived.parameters()), [], *inputs)
    return Trial(w / images, theta / images, retraining / images, images, str(device))


def _random_inputs(plan: Plan, images: int, device: torch.device) -> tuple[Tensor, Metadata, Tensor]:
    generator = torch.Generator().manual_seed(0)
    known = plan.inputs()
    pixels = torch.randn(images, 3, plan.image_size, plan.image_size, generator=generator)
    fields = [torch.randint(0, size, (images,), generator=generator) for size in known["vocabulary_sizes"]]
    categorical = torch.stack(fields, dim=1) if fields else torch.zeros(images, 0, dtype=torch.int64)
    metadata = Metadata(categorical, torch.randn(images, known["n_numeric"], generator=generator))
    labels = torch.randint(0, known["n_classes"], (images,), generator=generator)
    return (
        pixels.contiguous(memory_format=torch.channels_last).to(device),
        metadata.to(device),
        labels.to(device),
    )


def _seconds(
    model: SearchNetwork | nn.Module,
    own: list[nn.Parameter],
    other: list[nn.Parameter],
    image: Tensor,
    metadata: Metadata,
    label: Tensor,
) -> float:
    """Median seconds of a step that updates `own` and leaves `other` alone, after one to warm up."""
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(own)
    for parameter in other:
        parameter.requires_grad_(False)
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        F.cross_entropy(model(image, metadata), label).backward()
        nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if image.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    for parameter in other:
        parameter.requires_grad_(True)
    return median(times[1:])


def estimate(plan: Plan, photographs: int = BIOSCAN_5M, trial: Trial | None = None) -> pd.DataFrame:
    """Hours of search and retraining on a collection of so many photographs.

    Args:
        plan: sizes, epochs and device; its own collection only says how many classes and metadata fields there are.
        photographs: of the whole collection; 70 % of them are in training.
        trial: steps that were timed already.

    Returns:
        One row per phase: phase, seconds_per_1000_images, images_per_epoch, hours_per_epoch, epochs, hours, device, note.
        With theta_data="val" an epoch of the search has a theta step for each w step. The last row is the paper's claim.
    """
    trial = trial or trial_steps(plan)
    images = round(TRAINING_SHARE * photographs)
    shares = {"val": (1.0, 1.0), "train": (0.5, 0.5)}[plan.theta_data]
    phases = [
        ("search, w steps", trial.w, shares[0], plan.search_epochs),
        ("search, theta steps", trial.theta, shares[1], plan.search_epochs),
        ("retraining of one derived network", trial.retraining, 1.0, plan.epochs),
    ]
    rows = [
        {
            "phase": phase,
            "seconds_per_1000_images": round(1000 * seconds, 2),
            "images_per_epoch": round(images * share),
            "hours_per_epoch": round(seconds * images * share / 3600, 2),
            "epochs": epochs,
            "hours": round(seconds * images * share * epochs / 3600, 1),
            "device": trial.device,
            "note": f"steps of {trial.images} images, loading and validation not counted",
        }
        for phase, seconds, share, epochs in phases
    ]
    claimed = {"phase": "as published", "hours": PAPER_HOURS, "device": PAPER_DEVICE}
    return pd.DataFrame(
        [*rows, claimed | {"note": "the paper does not say which phases, nor how many epochs"}]
    )


def what_it_takes(plan: Plan, phase: str) -> str:
    """Two or three sentences for the start of a long run: images, disk, time per epoch, and how to make it smaller.

    Args:
        phase: "search" or "retraining".
    """
    train, val, test = plan.splits()
    images = plan.specimens().images
    trial = trial_steps(plan)
    per_image = trial.w + trial.theta if phase == "search" else trial.retraining
    epochs = plan.search_epochs if phase == "search" else plan.epochs
    seconds = per_image * len(train)
    stored = "no images"
    if images is not None:
        size = len(images) * images.size**2 * 3 / 1e9
        stored = (
            f"decoded anew in every epoch by {processors()} threads (decoded they would be {size:,.1f} GB)"
            if isinstance(images, StreamedImages)
            else f"{size:,.1f} GB decoded"
        )
    return (
        f"{phase}: {len(train):,} training, {len(val):,} validation and {len(test):,} test photographs at {plan.image_size} "
        f"px, {stored}. From a trial step on {trial.device}: about {_duration(seconds)} per epoch, {_duration(seconds * epochs)} "
        f"for {epochs} epochs. Smaller: preset=laptop or quick, image_size, limit, "
        f"{'search_epochs' if phase == 'search' else 'epochs'}; mode=quick chooses all of them."
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
