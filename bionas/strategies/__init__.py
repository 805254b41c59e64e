"""Search strategies (Table I): one interface, `STRATEGIES["evolutionary"](space, evaluate, budget, seed) -> SearchResult`.

    gradient       Algorithm 1 on the supernet             random         without replacement
    enas           a controller on a shared supernet       evolutionary   ageing evolution
    reinforce      a controller, children trained alone    nao            ascent in a learned embedding
    fixed          no search: a network drawn by hand

A space says what there is to choose from, an evaluator what a genotype is worth, the budget is in training images and the
same for all. Given a folder, a search that was stopped goes on where it was, and a finished one is read.
"""

from __future__ import annotations

import importlib
import pkgutil

from bionas.strategies.evaluators import Evaluator, PlanEvaluator, Score, Supernet, TableEvaluator
from bionas.strategies.searching import STRATEGIES, SearchResult, Strategy, strategy
from bionas.strategies.space import Space

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "STRATEGIES",
    "Evaluator",
    "PlanEvaluator",
    "Score",
    "SearchResult",
    "Space",
    "Strategy",
    "Supernet",
    "TableEvaluator",
    "strategy",
]
