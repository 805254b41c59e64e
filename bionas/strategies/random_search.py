"""Random search: the control that every other strategy is compared with (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bionas.genotype import Genotype
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import (
    Sampler,
    SearchResult,
    generator_state,
    search_candidates,
    set_generator_state,
    strategy,
)
from bionas.strategies.space import Space


@strategy("random")
def random(
    space: Space, evaluate: Evaluator, budget: int, seed: int = 0, *, folder: Path | None = None
) -> SearchResult:
    """Genotypes drawn uniformly over primitives (`Space.random`) without replacement; the best one is the result."""
    return search_candidates("random", Uniform(space, seed), space, evaluate, budget, seed, folder, {})


class Uniform(Sampler):
    """Random genotypes, each computing something new."""

    def __init__(self, space: Space, seed: int):
        self.space, self.generator = space, np.random.default_rng(seed)
        self.seen: set[str] = set()

    def propose(self) -> Genotype | None:
        if len(self.seen) >= self.space.distinct:
            return None
        while (genotype := self.space.random(self.generator)).key() in self.seen:
            pass
        return genotype

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.seen.add(genotype.key())
        return {}

    def state(self) -> dict[str, Any]:
        return {"generator": generator_state(self.generator), "seen": sorted(self.seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = set(state["seen"])
        set_generator_state(self.generator, state["generator"])
