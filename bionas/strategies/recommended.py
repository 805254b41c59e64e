"""The search recommended for one's own photographs: an alias that follows the study of searches.

It is `warm_start`. On 12 orders of field photographs, with about 12 core-minutes for search and final training together and three
searches each (`data/results/searches_field_orders.csv`), its networks have 43.5 % balanced accuracy on test, those of random search
39.5 % (difference +4.0 points, 95 % interval +0.8 to +7.5). The gain is that of the hand-drawn start: the design `mixed`, trained
without any search in a third of the minutes, has 44.1 %. So a search of minutes is worth having where the start may not suit the
photographs; it has not been shown to improve on a start that does.

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
