"""Early stopping by the sharpness of the validation loss in theta (R-DARTS; Zela et al., ICLR 2020)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.differentiable import Variant, derived_from, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.one_path import batch_statistics
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space
from bionas.training import fitting

ITERATIONS = 10
"""Of the power iteration."""


@strategy("early_stopping", needs=SUPERNET)
def early_stopping(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    window: int = 3,
    back: int = 2,
    ratio: float = 0.75,
    derivation: str = "argmax",
) -> SearchResult:
    """Algorithm 1 that ends when the dominant eigenvalue of the Hessian in theta rises fast.

    After each epoch the eigenvalue is estimated on one validation batch and averaged over `window` epochs. When
    average(epoch - back) / average(epoch) < ratio, the search ends and derives from epoch - back. Networks derived from
    sharp minima lose more in derivation. Zela et al. used a window of 3 and back = 5 in 50 epochs.

    Args:
        window, back, ratio: as above.
        derivation: as of `gradient`.

    Raises:
        SearchError: window or back below 1, a ratio outside (0, 1), or as `gradient`.
    """
    if window < 1 or back < 1 or not 0 < ratio < 1:
        raise SearchError(
            f"window={window}, back={back}, ratio={ratio:g}: the first two are at least 1, the last between 0 and 1."
        )
    options = {"window": window, "back": back, "ratio": ratio}

    def trainer(*args: Any) -> SharpnessStop:
        return SharpnessStop(*args, **options)

    variant = Variant(trainer=trainer, options=options)
    return search_by_gradient("early_stopping", space, evaluate, budget, seed, folder, variant, derivation)


class SharpnessStop(fitting.Search):
    """Algorithm 1 with the eigenvalue of each epoch in history.csv (`eigenvalue`)."""

    def __init__(self, *args: Any, window: int, back: int, ratio: float):
        self.window, self.back, self.ratio = window, back, ratio
        super().__init__(*args)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        found = super().train_epoch(epoch, bar)
        eigenvalue = self.eigenvalue() if epoch >= self.config.warmup_epochs else math.nan
        self.model.train()
        return found | {"eigenvalue": eigenvalue}

    def eigenvalue(self) -> float:
        """Largest eigenvalue of the Hessian of the validation loss in theta, by power iteration."""
        batch = self.to_device(next(self.val_loader.epoch(0)))
        with batch_statistics(self.supernet):
            value = self._power_iteration(batch, shift=0.0)
            if value < 0:  # of largest magnitude is a negative one: shifted by it, that is the largest
                value = self._power_iteration(batch, shift=-value) + value
        return value

    def _power_iteration(self, batch: Any, shift: float) -> float:
        """The eigenvalue of Hessian + shift that is largest in magnitude."""
        theta = self.supernet.theta.detach()
        # A fixed irregular start: a constant vector is in the null space of the softmax.
        direction, value = 1 + torch.linspace(-1, 1, theta.numel(), device=theta.device).mul(40).sin(), 0.0
        direction = direction.view_as(theta)
        for _ in range(ITERATIONS):
            direction = direction / direction.norm().clamp_min(1e-12)
            product = self._hessian_times(batch, direction) + shift * direction
            value = float((direction * product).sum())
            direction = product
        return value

    def _hessian_times(self, batch: Any, direction: Tensor) -> Tensor:
        """The Hessian of the loss on a batch in theta, times a direction of theta's shape."""
        theta = self.supernet.theta
        loss, _ = self.algorithm.loss(batch)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return torch.autograd.grad((gradient * direction).sum(), theta)[0]

    def averages(self) -> np.ndarray:
        """The eigenvalue of each epoch, averaged over the window that ends there; NaN before the first whole window."""
        values = np.array([row["eigenvalue"] for row in self.history])
        whole = [values[max(0, i + 1 - self.window) : i + 1] for i in range(len(values))]
        return np.array([w.mean() if len(w) == self.window else math.nan for w in whole])

    def _sharp(self) -> bool:
        averages = self.averages()
        if len(averages) <= self.back or not averages[-1] > 0:
            return False
        before = averages[-1 - self.back]
        return bool(0 < before < self.ratio * averages[-1])

    @property
    def stopped(self) -> str:
        if not self._sharp():
            return super().stopped
        averages = self.averages()
        return (
            f"search: stopped after epoch {self.epoch} of {self.config.epochs}, where the dominant eigenvalue rose from "
            f"{averages[-1 - self.back]:.3g} to {averages[-1]:.3g}. Derived from epoch {self.derived_epoch}."
        )

    @property
    def derived_epoch(self) -> int:
        return self.epoch - self.back if self._sharp() else super().derived_epoch

    def genotype(self) -> Genotype:
        return derived_from(self.supernet, self.thetas[self.derived_epoch])
