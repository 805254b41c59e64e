"""Early stopping by the sharpness of the validation loss in theta (R-DARTS; Zela et al., ICLR 2020)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bionas.errors import SearchError
from bionas.specimens.loader import Batch
from bionas.strategies.differentiable import Variant, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.one_path import batch_statistics
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space
from bionas.training.fitting import Ending, Search, SearchHooks

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
    options: dict[str, Any] = {"window": window, "back": back, "ratio": ratio}
    variant = Variant(hooks=Sharpness(**options), options=options)
    return search_by_gradient("early_stopping", space, evaluate, budget, seed, folder, variant, derivation)


class Sharpness(SearchHooks):
    """The eigenvalue of each epoch in history.csv (`eigenvalue`), and the end of the search where it rises fast."""

    def __init__(self, window: int, back: int, ratio: float):
        self.window, self.back, self.ratio = window, back, ratio

    def after_epoch(self, search: Search) -> dict[str, float]:
        warming_up = search.epoch < search.config.warmup_epochs
        return {"eigenvalue": math.nan if warming_up else eigenvalue(search)}

    def ending(self, history: list[dict[str, Any]]) -> Ending | None:
        averages = self.averages(history)
        if len(averages) <= self.back:
            return None
        before, now = averages[-1 - self.back], averages[-1]
        if not 0 < before < self.ratio * now:
            return None
        epoch = len(history) - self.back
        return Ending(
            epoch,
            f"search: stopped after epoch {len(history)}, where the dominant eigenvalue rose from {before:.3g} to {now:.3g}. "
            f"Derived from epoch {epoch}.",
        )

    def averages(self, history: list[dict[str, Any]]) -> np.ndarray:
        """The eigenvalue of each epoch, averaged over the window that ends there; NaN before the first whole window."""
        values = np.array([row["eigenvalue"] for row in history])
        whole = [values[max(0, i + 1 - self.window) : i + 1] for i in range(len(values))]
        return np.array([w.mean() if len(w) == self.window else math.nan for w in whole])


def eigenvalue(search: Search) -> float:
    """Largest eigenvalue of the Hessian of the validation loss in theta, by power iteration on one batch."""
    batch = search.to_device(next(search.val_loader.epoch(0)))
    with batch_statistics(search.supernet):
        value = _power_iteration(search, batch, shift=0.0)
        if value < 0:  # of largest magnitude is a negative one: shifted by it, that is the largest
            value = _power_iteration(search, batch, shift=-value) + value
    return value


def _power_iteration(search: Search, batch: Batch, shift: float) -> float:
    """The eigenvalue of Hessian + shift that is largest in magnitude."""
    theta = search.supernet.theta.detach()
    # A fixed irregular start: a constant vector is in the null space of the softmax.
    direction, value = 1 + torch.linspace(-1, 1, theta.numel(), device=theta.device).mul(40).sin(), 0.0
    direction = direction.view_as(theta)
    for _ in range(ITERATIONS):
        direction = direction / direction.norm().clamp_min(1e-12)
        product = hessian_times(search, batch, direction) + shift * direction
        value = float((direction * product).sum())
        direction = product
    return value


def hessian_times(search: Search, batch: Batch, direction: Tensor) -> Tensor:
    """The Hessian of the loss on a batch in theta, times a direction of theta's shape."""
    theta = search.supernet.theta
    loss, _ = search.algorithm.loss(batch)
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    return torch.autograd.grad((gradient * direction).sum(), theta)[0]
