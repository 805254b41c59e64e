"""Supernets that are trained one path at a time: what ENAS and single-path one-shot search share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from bionas.genotype import Genotype
from bionas.network import SearchNetwork
from bionas.strategies.evaluators import Score, Supernet
from bionas.strategies.space import Space
from bionas.trainer import WeightTrainer
from bionas.training.loop import Tally, Trainer, optimizer_of_w
from bionas.training.runs import Run

EXCLUDED = -1e4
"""theta of primitives that are not on the path: their alpha is exactly 0 and the supernet does not compute them."""


class OnePathTrainer(Trainer):
    """Trains the shared weights, each batch on one path that `next_path` returns.

    Args:
        supernet: network, data and configuration; its description joins the run's.
        run: folder of the supernet.
        space: the search space.
        options: of the strategy, part of the run's configuration.
    """

    model: SearchNetwork

    def __init__(self, supernet: Supernet, run: Run, space: Space, options: dict[str, Any]):
        self.supernet, self.space = supernet.model, space
        supernet.model.theta.requires_grad_(False)  # it selects the path and is not learnt
        sides = supernet.train, supernet.val, supernet.encoding
        super().__init__(supernet.model, *sides, supernet.config, run, supernet.description | options)

    def next_path(self) -> np.ndarray:
        """The choices (L,) that the next training batch is computed on."""
        raise NotImplementedError

    def shown_path(self) -> np.ndarray:
        """The choices (L,) whose validation accuracy stands in history.csv."""
        raise NotImplementedError

    def after_batches(self, epoch: int) -> dict[str, Any]:
        """What follows the batches of an epoch; further columns of its row in history.csv."""
        return {}

    def make_algorithm(self) -> WeightTrainer:
        w = optimizer_of_w(self.supernet.weights(), self.config)
        return WeightTrainer(self.model, w, **self.settings(w))

    def choose(self, choices: np.ndarray) -> None:
        """Make the supernet compute one path: choices (L,)."""
        theta = torch.full_like(self.supernet.theta, EXCLUDED)
        rows = torch.as_tensor(choices, device=theta.device).reshape(theta.shape[:2])
        with torch.no_grad():
            self.supernet.theta.copy_(theta.scatter(2, rows[:, :, None], 0.0))

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        tally = Tally(self)
        for step, batch in enumerate(map(self.to_device, self.train_loader.epoch(epoch))):
            self.choose(self.next_path())
            tally.add(step, self.algorithm.step(batch))
            bar.set_postfix(step=f"{step + 1}/{self.steps_per_epoch}", refresh=False)
        return tally.row() | self.after_batches(epoch)

    def validate(self) -> dict[str, float]:
        return self.of_path(self.shown_path())

    def of_path(self, choices: np.ndarray) -> dict[str, float]:
        """val_loss and val_accuracy of one path with the shared weights and the batch statistics."""
        self.choose(choices)
        with batch_statistics(self.supernet):
            return self._on_validation()

    def _on_validation(self) -> dict[str, float]:
        loss = right = 0.0
        smoothing = self.config.label_smoothing
        with torch.no_grad():
            for batch in map(self.to_device, self.val_loader.epoch(0)):
                logits = self.model(batch.image, batch.metadata).float()
                loss += F.cross_entropy(
                    logits, batch.label, label_smoothing=smoothing, reduction="sum"
                ).item()
                right += (logits.argmax(1) == batch.label).sum().item()
        n = len(self.val_set)
        return {"val_loss": loss / n, "val_accuracy": right / n}

    def scored(self, genotype: Genotype) -> Score:
        """A path with the shared weights: no image is trained on."""
        found = self.of_path(self.space.encode(genotype))
        return Score(found["val_accuracy"], 0, {"val_loss": found["val_loss"]})


@contextlib.contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Inference in which batch normalisation uses each batch's statistics and does not update the running ones."""
    network.eval()
    norms = [(module, module.momentum) for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm, _ in norms:
        norm.train()
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.eval()
            norm.momentum = momentum
