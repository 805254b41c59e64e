"""GDAS: one path per forward pass, sampled by Gumbel-softmax (Dong and Yang, CVPR 2019)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bionas.cells import Relaxation
from bionas.errors import SearchError
from bionas.strategies.differentiable import Progress, Variant, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space


@strategy("gdas", needs=SUPERNET)
def gdas(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    tau_first: float = 10.0,
    tau_last: float = 0.1,
    derivation: str = "argmax",
) -> SearchResult:
    """Algorithm 1 in which every edge computes one sampled primitive; the gradient reaches theta through its weight.

    A pass costs what a derived network costs. The temperature falls linearly from `tau_first` to `tau_last`.

    Args:
        tau_first, tau_last: temperature of the first and of the last epoch.
        derivation: as of `gradient`.

    Raises:
        SearchError: a temperature of 0 or less, or as `gradient`.
    """
    if tau_first <= 0 or tau_last <= 0:
        raise SearchError(f"tau_first={tau_first:g}, tau_last={tau_last:g}: temperatures lie above 0.")
    variant = Variant(
        relaxation=lambda _: GumbelPath(tau_first, tau_last),
        hooks=Progress(),
        options={"tau_first": tau_first, "tau_last": tau_last},
    )
    return search_by_gradient("gdas", space, evaluate, budget, seed, folder, variant, derivation)


class GumbelPath(Relaxation):
    """One-hot weights: sampled in training, the most probable primitive in inference."""

    varies = True

    def __init__(self, tau_first: float, tau_last: float):
        super().__init__()
        self.tau_first, self.tau_last, self.tau = tau_first, tau_last, tau_first

    def set_progress(self, progress: float) -> None:
        """Set the temperature: progress from 0 (first epoch) to 1 (last epoch)."""
        self.tau = self.tau_first + (self.tau_last - self.tau_first) * progress

    def forward(self, theta: Tensor) -> Tensor:
        if not self.training:
            return torch.zeros_like(theta).scatter(-1, theta.argmax(-1, keepdim=True), 1.0)
        noise = -torch.empty_like(theta).exponential_().clamp_min(torch.finfo(theta.dtype).tiny).log()
        soft = torch.softmax((torch.log_softmax(theta, dim=-1) + noise) / self.tau, dim=-1)
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        return hard + (soft - soft.detach())  # exactly 0 and 1, with the gradient of the softmax
