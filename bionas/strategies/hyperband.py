"""Hyperband: brackets of successive halving that differ in how early they judge (Li et al., JMLR 2018)."""

from __future__ import annotations

from pathlib import Path

from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.halving import Brackets, Rung, default_rungs, first_bracket, search_brackets
from bionas.strategies.searching import SearchResult, require, strategy
from bionas.strategies.space import Space


@strategy("hyperband", needs=FIDELITIES)
def hyperband(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    eta: float = 3.0,
) -> SearchResult:
    """Brackets that begin at 1, eta, eta^2, ... times the shortest training, until the budget is spent.

    Early scores may mislead (slow learners look bad): later brackets judge later, with fewer candidates. The best of those
    trained longest is the result.

    Args:
        eta: as in `halving`.

    Raises:
        SearchError: as `halving`.
    """
    require("hyperband", evaluate)
    brackets = brackets_within(evaluate, budget, eta)
    sampler = Brackets(space, seed, brackets)
    return search_brackets("hyperband", sampler, space, evaluate, budget, seed, folder, {"eta": eta})


def brackets_within(evaluate: Evaluator, budget: int, eta: float) -> list[list[Rung]]:
    """Brackets for a budget of training images, one for each shortest training, each with an equal share of the budget.

    Where a share pays for no whole bracket, there are fewer brackets: those that judge early come first.
    """
    rungs = default_rungs(evaluate.epochs, eta)
    for number in range(len(rungs), 1, -1):
        share = budget // number
        if share >= sum(evaluate.at(epochs).images for epochs in rungs):
            return [first_bracket(evaluate, share, eta, rungs[start:]) for start in range(number)]
    return [first_bracket(evaluate, budget, eta)]
