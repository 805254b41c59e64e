"""Random search: the control that every other strategy is held against (Li and Talwalkar 2019)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bionas.genotype import Genotype
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import Sampler, SearchResult, search_candidates, strategy
from bionas.strategies.space import Space


@strategy("random")
def random(
    space: Space, evaluate: Evaluator, budget: int, seed: int = 0, *, folder: Path | None = None
) -> SearchResult:
    """Genotypes drawn uniformly over primitives (`Space.random`), without replacement; the best one is the answer."""
    return search_candidates("random", Chance(space, seed), space, evaluate, budget, seed, folder, {})


class Chance(Sampler):
    """Draws until something new comes."""

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
        return {"generator": drawn(self.generator), "seen": sorted(self.seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = set(state["seen"])
        draw_on(self.generator, state["generator"])


def drawn(generator: np.random.Generator) -> str:
    """How far a generator has come, as text (its numbers are longer than 64 bits)."""
    return json.dumps(generator.bit_generator.state)


def draw_on(generator: np.random.Generator, state: str) -> None:
    """Put a generator where `drawn` was."""
    generator.bit_generator.state = json.loads(state)
