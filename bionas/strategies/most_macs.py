"""Control without training: the most expensive genotype within the MAC budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bionas.errors import SearchError
from bionas.strategies.evaluators import NETWORKS, Evaluator
from bionas.strategies.searching import SearchResult, conclude, finished, open_run, require, row, strategy
from bionas.strategies.space import Space


@strategy("most_macs", needs=NETWORKS)
def most_macs(
    space: Space, evaluate: Evaluator, budget: int, seed: int = 0, *, folder: Path | None = None
) -> SearchResult:
    """Coordinate ascent on MACs at search width, below `evaluate.macs_limit`; no image is trained on.

    On the genotypes of the regret table, MACs alone rank accuracy as well as the usual zero-cost scores do: a search that
    does not beat this control is not worth its time. MACs add up over edges, so the ascent finds the maximum where the
    limit does not bind. It starts at a random genotype within the limit; equally expensive primitives stay as drawn.

    Raises:
        SearchError: no random genotype keeps within the limit.
    """
    require("most_macs", evaluate)
    run = open_run(folder, "most_macs", space, evaluate, budget, seed, {})
    if (result := finished(run)) is not None:
        return result
    choices, macs = _start(space, evaluate, np.random.default_rng(seed))
    rows = [row(0, space.decode(choices), macs, 0, 0.0)]
    improved = True
    while improved:
        improved = False
        for edge in range(space.choices):
            for k in range(len(space.primitives)):
                other = choices.copy()
                other[edge] = k
                if not space.has_path(other):
                    continue
                cost = evaluate.macs(space.decode(other))
                if macs < cost <= evaluate.macs_limit:
                    choices, macs, improved = other, cost, True
        rows.append(row(len(rows), space.decode(choices), macs, 0, 0.0))
    found = space.canonical(space.decode(choices))
    return conclude(run, SearchResult(found, pd.DataFrame(rows), 0, "no single change costs more"))


DRAWS = 1000


def _start(space: Space, evaluate: Evaluator, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    for _ in range(DRAWS):
        genotype = space.random(generator)
        macs = evaluate.macs(genotype)
        if macs <= evaluate.macs_limit:
            return space.encode(genotype), macs
    raise SearchError(
        f"none of {DRAWS} random genotypes keeps within {evaluate.macs_limit / 1e6:g} million MACs at search width. "
        "Allow more (max_mmacs), or choose a narrower preset."
    )
