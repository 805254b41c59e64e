"""The search recommended for one's own photographs, an alias that follows the study of searches.

Provisional: `bionas searches` (`studies/searches`) has not been run at full size. Until it has, the alias is successive
halving at the cost of the final network: on 5,598 field photographs, one trial of it had 41.6 % balanced accuracy on test
in about the minutes of the gradient search (43.2 ± 1.8 over three searches), single random genotypes 36.3 ± 3.7. It needs no
supernet, and its result has already been trained at full length.

Prefer plain `random` where the budget has fewer than about eight full trainings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.searching import STRATEGIES, SearchResult, strategy
from bionas.strategies.space import Space

RECOMMENDED = "halving"


@strategy("recommended", needs=FIDELITIES)
def recommended(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    **options: Any,
) -> SearchResult:
    """The strategy named `RECOMMENDED`, with its options; its run folder is that of this strategy."""
    return STRATEGIES[RECOMMENDED](space, evaluate, budget, seed, folder=folder, **options)
