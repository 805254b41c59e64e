"""How a network is trained or searched, as data: every choice that the paper makes, and those it leaves open.

Each choice is declared once. `Training` and `ThetaSearch` are part of a run's `configuration.Plan` as well: a new option
of the search is one field of `ThetaSearch`, and is then a field of `SearchConfig` and of `Plan`, a parameter of `plan()`
and a name after `-p`.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch.optim import lr_scheduler

from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.training.choices import Checked, choice

SCHEDULES = ("one_cycle", "cosine", "constant")
"""Of w's learning rate; the paper names none. "constant" with a rate of 1e-3 takes the paper literally."""

BALANCES = ("class_weights", "resampling", "logit_adjustment")
"""What a training may do about rare classes (`training.balance`); the paper does nothing."""

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
DEVICES = ("auto", "cpu", "cuda", "mps")

THETA_RATES = ("paper", "scaled")
PAPER_THETA_RATE = 3e-4
PAPER_THETA_STEPS = 3510
"""Theta steps of one epoch at the paper's scale, at the least."""

LEAST_REACH = PAPER_THETA_RATE * PAPER_THETA_STEPS
"""1.05: the theta reach of one such epoch. Adam moves a theta by at most about its rate per step, so the reach (the sum
of the rate over theta steps) bounds how far alphas can part: from +1.05 to -1.05, a ratio of about eight."""

THETA_BETAS = {"torch": (0.9, 0.999), "darts": (0.5, 0.999)}
"""Adam's betas for theta. The paper gives none; Liu et al. 2019 (DARTS) take 0.5 for the first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Checked):
    """What search and retraining share."""

    batch_size: int | str = choice(
        64, "images per step; auto: the largest of 512 ... 32 that memory allows", words=("auto",), at_least=1
    )
    precision: str = choice(
        "auto",
        "auto (fp16 with dynamic loss scaling on CUDA, fp32 elsewhere), fp32, fp16 or bf16",
        known=PRECISIONS,
    )
    device: str = choice(
        "auto", "auto (CUDA, else an Apple GPU, else the CPU), cpu, cuda or mps", known=DEVICES
    )
    seed: int = choice(0, "of initialisation, order, dropout and augmentation", at_least=0)
    sync_batch_norm: bool = choice(
        False, "in a job of several processes, batch normalisation uses the statistics of all of them"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThetaSearch(Checked):
    """The choices of a search only."""

    theta_learning_rate: float | str = choice(
        "paper",
        "Adam's, for theta: a number; paper (3e-4); scaled (where theta steps are few, the rate at which theta reach is that "
        "of one epoch at the paper's scale, 1.05)",
        words=THETA_RATES, at_least=0,
    )  # fmt: skip
    theta_betas: str = choice(
        "torch", "Adam's, for theta: torch (0.9, 0.999) or darts (0.5, 0.999); the paper gives none", known=THETA_BETAS
    )  # fmt: skip
    theta_data: str = choice(
        "val", "data that score theta: val (Eq. 12) or train (every odd batch: Algorithm 1 to the letter)",
        known=("val", "train"),
    )  # fmt: skip
    # The paper has no warm-up: an operation without weights (a pool, a skip) is then compared with convolutions that
    # have learned nothing yet.
    warmup_epochs: int = choice(
        0, "epochs of the search in which only w is updated, before theta moves", at_least=0
    )
    rate_warmup_epochs: int = choice(
        0, "epochs of the search in which the rate of w rises linearly, before its schedule; the paper has none", at_least=0
    )  # fmt: skip
    theta_batch_norm: str = choice(
        "batch",
        "in a theta step batch normalisation uses and updates that batch's statistics (batch), or the running ones (running)",
        known=("batch", "running"),
    )
    max_skips: int | None = choice(
        None,
        "the search ends once skip_connect leads more edges than this, and the last epoch before is derived from; "
        "None: never, as in the paper",
        at_least=0,
    )
    argmax_per: str = choice(
        "edge", "where the argmax is taken: on each edge (section III-B.2), or for each node (III-A.1)", known=("edge", "node")
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(Training):
    """How a network is trained. Weight decay, clipping and smoothing are the paper's; it names no schedule.

    The learning rate is the schedule's peak: one cycle with peak 3e-3 has a mean of 1.5e-3, near the paper's 1e-3, and
    did better on validation than a cycle with peak 1e-3. `schedule="constant", learning_rate=1e-3` is the paper read
    literally.
    """

    epochs: int = choice(20, "passes over the training split", at_least=1)
    learning_rate: float = choice(3e-3, "AdamW's, for w: the peak of the schedule", above=0)
    weight_decay: float = choice(1e-4, "AdamW's, for w", at_least=0)
    clip_norm: float = choice(1.0, "largest gradient norm", above=0)
    label_smoothing: float = choice(0.1, "share of the target spread over all classes", at_least=0)
    schedule: str = choice("one_cycle", "of the learning rate", known=SCHEDULES)
    augment: str = choice(
        "none", "of the training images: none, as in the paper, or a name", known=AUGMENTATIONS
    )
    balance: str | None = choice(
        None,
        "for rare classes: class_weights, resampling or logit_adjustment; None: nothing, as in the paper",
        known=BALANCES,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(ThetaSearch, FitConfig):
    """How a supernet is searched: `FitConfig` for w, `ThetaSearch` for theta, with the paper's rates and decays."""

    learning_rate: float = choice(1e-3, "AdamW's, for w: the peak of the schedule", above=0)
    schedule: str = choice("cosine", "of the learning rate of w", known=SCHEDULES)
    theta_weight_decay: float = choice(1e-3, "Adam's, for theta", at_least=0)


def theta_rate(choice: float | str, steps: int) -> float:
    """The learning rate of theta for a search of so many theta steps.

    Args:
        choice: a number, "paper" or "scaled". "scaled" is the rate at which the theta reach is `LEAST_REACH`, and never
            below the paper's rate: from 3,510 steps on both are the same.
    """
    if choice == "paper":
        return PAPER_THETA_RATE
    if choice == "scaled":
        return max(PAPER_THETA_RATE, LEAST_REACH / max(steps, 1))
    return float(choice)


def schedule_of(
    optimizer: torch.optim.Optimizer, config: FitConfig, steps: int, warmup: int = 0
) -> lr_scheduler.LRScheduler:
    """The schedule of w's rate over `steps` updates; the first `warmup` of them rise linearly to the rate."""
    if config.schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps + 1)
    if warmup:
        rest = max(1, steps - warmup)
        falling = config.schedule == "cosine"

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return (1 + math.cos(math.pi * min(1.0, (step - warmup) / rest))) / 2 if falling else 1.0

        return lr_scheduler.LambdaLR(optimizer, factor)
    if config.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)
