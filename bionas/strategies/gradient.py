"""Differentiable search as the paper has it: Algorithm 1 (section III-B) for a budget."""

from __future__ import annotations

from pathlib import Path

from bionas.strategies.differentiable import search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space


@strategy("gradient", needs=SUPERNET)
def gradient(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    derivation: str = "argmax",
) -> SearchResult:
    """As many epochs of Algorithm 1 as the budget has room for; the result is what the last one derives, or with `max_skips`
    (`SearchConfig`) the last one before skips led too many edges. The trace is that of `search_by_gradient`.

    Args:
        derivation: "argmax" as in the paper, or "perturbation" (`perturbation`).

    Raises:
        SearchError: the budget is below one epoch, or the evaluator has no supernet.
    """
    return search_by_gradient("gradient", space, evaluate, budget, seed, folder, derivation=derivation)
