"""Search strategies (Table I and after): a search = space x strategy x evaluator x budget.

`STRATEGIES["evolutionary"](space, evaluate, budget, seed, folder=...) -> SearchResult`. A space says which genotypes there
are, an evaluator what one is worth, the budget is in training images and the same for all strategies (`minutes` converts
core-minutes into images at measured rates). With a folder, an interrupted search resumes and a finished one is read.

    of the paper and Table I    gradient, enas, reinforce, random, evolutionary, nao, fixed
    differentiable              pc_darts, gdas, beta_darts, fair_darts, early_stopping
    one-shot                    single_path
    multi-fidelity              halving, hyperband, dehb, warm_start
    controls without training   most_macs, synflow
    alias                       recommended

To add one: a module with a function under `@strategy("name", needs=...)`, imported below.
"""

from __future__ import annotations

# Importing a module registers its strategy.
from bionas.strategies import (
    beta_darts,
    dehb,
    early_stopping,
    enas,
    evolutionary,
    fair_darts,
    fixed,
    gdas,
    gradient,
    halving,
    hyperband,
    most_macs,
    nao,
    pc_darts,
    random_search,
    recommended,
    reinforce,
    single_path,
    synflow,
    warm_start,
)
from bionas.strategies.evaluators import Evaluator, PlanEvaluator, Score, Supernet, TableEvaluator
from bionas.strategies.searching import STRATEGIES, SearchResult, Strategy, Trial, strategy
from bionas.strategies.space import Space

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
    "Trial",
    "beta_darts",
    "dehb",
    "early_stopping",
    "enas",
    "evolutionary",
    "fair_darts",
    "fixed",
    "gdas",
    "gradient",
    "halving",
    "hyperband",
    "most_macs",
    "nao",
    "pc_darts",
    "random_search",
    "recommended",
    "reinforce",
    "single_path",
    "strategy",
    "synflow",
    "warm_start",
]
