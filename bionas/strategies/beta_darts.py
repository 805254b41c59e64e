"""beta-DARTS: a penalty that keeps theta small and even early on (Ye et al., CVPR 2022)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bionas.network import SearchNetwork
from bionas.strategies.differentiable import Progress, Variant, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space


@strategy("beta_darts", needs=SUPERNET)
def beta_darts(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    largest_weight: float = 50.0,
    derivation: str = "argmax",
) -> SearchResult:
    """Algorithm 1 with beta-decay: log sum exp(theta), averaged over edges, added to the loss of theta steps.

    It shrinks large theta more than small ones, and with them differences between the softmaxed weights (the betas of the
    paper). Its weight rises linearly from 0 to `largest_weight` over the search; Adam's decay of theta is off.

    Args:
        largest_weight: in the last epoch.
        derivation: as of `gradient`.
    """

    variant = Variant(
        hooks=BetaDecay(largest_weight), theta_weight_decay=0.0, options={"largest_weight": largest_weight}
    )
    return search_by_gradient("beta_darts", space, evaluate, budget, seed, folder, variant, derivation)


class BetaDecay(Progress):
    """log sum exp(theta) of each edge, averaged, times a weight that rises with the search."""

    def __init__(self, largest_weight: float):
        self.largest_weight = largest_weight

    def penalty(self, supernet: SearchNetwork) -> Tensor:
        return self.largest_weight * self.progress * supernet.theta.logsumexp(dim=-1).mean()
