"""The search recommended for one's own photographs: an alias that follows the study of searches.

It is `warm_start`. In `data/results/searches_field_orders.csv` (12 orders of field photographs, 11.7 core-minutes for search and
final training together) its networks are above those of random search of the same minutes; most of that comes from the
hand-drawn networks it begins at, which do nearly as well untouched. Notebook 05 shows both with their intervals.

Prefer plain `random` where no design should have a say, such as for a study of the space itself, or where the primitive set
has none of the designs' primitives (`conv_only`: `warm_start` then is `halving`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.searching import STRATEGIES, SearchResult, strategy
from bionas.strategies.space import Space

RECOMMENDED = "warm_start"


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
