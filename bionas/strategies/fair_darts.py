"""FairDARTS: primitives that do not compete, and a loss that makes them decide (Chu et al., ECCV 2020)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bionas.cells import Relaxation
from bionas.network import SearchNetwork
from bionas.strategies.differentiable import Variant, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space
from bionas.training.fitting import SearchHooks


@strategy("fair_darts", needs=SUPERNET)
def fair_darts(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    zero_one_weight: float = 10.0,
    derivation: str = "argmax",
) -> SearchResult:
    """Algorithm 1 with sigmoids instead of a softmax: a primitive need not lose for another one to gain.

    The zero-one loss, minus the mean of (sigmoid(theta) - 0.5)^2, pushes every weight away from one half. On each edge the
    largest sigmoid is derived. Chu et al. keep several primitives per edge above a threshold; our cell has one per edge.

    Args:
        zero_one_weight: of that loss.
        derivation: as of `gradient`.
    """

    variant = Variant(
        relaxation=lambda _: Sigmoid(),
        hooks=ZeroOne(zero_one_weight),
        options={"zero_one_weight": zero_one_weight},
    )
    return search_by_gradient("fair_darts", space, evaluate, budget, seed, folder, variant, derivation)


class ZeroOne(SearchHooks):
    """Minus the mean of (sigmoid(theta) - 0.5)^2, times a weight."""

    def __init__(self, weight: float):
        self.weight = weight

    def penalty(self, supernet: SearchNetwork) -> Tensor:
        return -self.weight * (torch.sigmoid(supernet.theta) - 0.5).square().mean()


class Sigmoid(Relaxation):
    """Independent weights in (0, 1); as alpha they are divided by their sum on the edge."""

    def forward(self, theta: Tensor) -> Tensor:
        return torch.sigmoid(theta)

    def alpha(self, theta: Tensor) -> Tensor:
        weights = torch.sigmoid(theta)
        return weights / weights.sum(dim=-1, keepdim=True)
