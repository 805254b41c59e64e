"""How a network is trained or searched, as data: every choice that the paper makes, and those it leaves open."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bionas.errors import UnknownName

SCHEDULES = ("one_cycle", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How a network is trained. Weight decay, clipping and smoothing are the paper's.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step, or "auto": the largest of 512 ... 32 that memory allows.
        learning_rate, weight_decay: AdamW's, for w. The rate is the schedule's peak: one cycle from 3e-3 averages
            1.5e-3, near the paper's 1e-3, and did better on validation than a cycle from 1e-3.
        clip_norm: largest gradient norm.
        label_smoothing: share of the target spread over all classes.
        schedule: of the learning rate; the paper names none.
        augment: "none" as in the paper, or a name that `BatchLoader` knows.
        precision: "auto" is fp16 on CUDA with dynamic loss scaling, fp32 elsewhere.
        device: "auto", "cpu" or "cuda".
        seed: of initialisation, order, dropout and augmentation.
    """

    epochs: int = 20
    batch_size: int | Literal["auto"] = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    schedule: str = "one_cycle"
    augment: str = "none"
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self):
        for value, known, kind in (
            (self.schedule, SCHEDULES, "schedule"),
            (self.precision, PRECISIONS, "precision"),
        ):
            if value not in known:
                raise UnknownName(kind, value, known)


@dataclasses.dataclass(frozen=True)
class SearchConfig(FitConfig):
    """How a supernet is searched: `FitConfig` for w, and for theta Adam's rate and decay as in the paper.

    Attributes:
        theta_data: "val" scores theta on validation data (Eq. 12); "train" takes every odd training batch for it
            (Algorithm 1 to the letter).
        warmup_epochs: epochs in which w alone is updated, before theta moves at all. The paper has none; an operation
            without weights (a pool, a skip) is otherwise compared with convolutions that have learnt nothing yet.
        theta_batch_norm: in a theta step batch normalisation uses that batch's statistics and keeps account of them, as in
            a w step ("batch"), or uses the running ones and leaves them alone ("running"). The paper does not say.
        max_skips: the search ends early once skip_connect leads more edges than this, and what is derived is of the
            last epoch in which it did not (`skips.guard`). None, as in the paper: it never does.
    """

    learning_rate: float = 1e-3
    schedule: str = "cosine"
    theta_learning_rate: float = 3e-4
    theta_weight_decay: float = 1e-3
    theta_data: str = "val"
    warmup_epochs: int = 0
    theta_batch_norm: str = "batch"
    max_skips: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.theta_data not in ("val", "train"):
            raise UnknownName("theta_data", self.theta_data, ("val", "train"))
        if self.theta_batch_norm not in ("batch", "running"):
            raise UnknownName("theta_batch_norm", self.theta_batch_norm, ("batch", "running"))
