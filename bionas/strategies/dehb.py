"""DEHB: Hyperband whose new candidates come from differential evolution (Awad et al., IJCAI 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.halving import LearningBrackets, Rung, halved_brackets, search_brackets
from bionas.strategies.searching import SearchResult, require, strategy
from bionas.strategies.space import Space

PARENTS = 3
"""Members that one mutant is made of: a + scale (b - c)."""

ATTEMPTS = 50
"""Mutants without a path, or already on the rung, are made again at most this often; then the candidate is random."""


@strategy("dehb", needs=FIDELITIES)
def dehb(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    eta: float = 3.0,
    scale: float = 0.5,
    crossover: float = 0.5,
) -> SearchResult:
    """The first half of the budget is random successive halving; afterwards candidates are mutants of the best so far.

    Genotypes are vectors in [0, 1)^L, a choice among K primitives being floor(K v). A mutant is a + scale (b - c) of three
    members of the population at the same number of epochs (rand/1), crossed over with the best member coordinate by
    coordinate. The population holds the better half of all that was scored at that number of epochs. Unlike Awad et al.
    there is one random bracket instead of a full Hyperband iteration, since the budgets here have tens of candidates.

    Args:
        eta: as in `halving`.
        scale: F of differential evolution.
        crossover: probability that a coordinate comes from the mutant.

    Raises:
        SearchError: scale or crossover outside (0, 1], or as `halving`.
    """
    require("dehb", evaluate)
    if not (0 < scale <= 1 and 0 < crossover <= 1):
        raise SearchError(f"scale={scale:g} and crossover={crossover:g}: both lie above 0 and at most at 1.")
    brackets = halved_brackets(evaluate, budget, eta)
    evolution = {"scale": scale, "crossover": crossover}
    sampler = Evolved(space, seed, brackets, **evolution)
    return search_brackets("dehb", sampler, space, evaluate, budget, seed, folder, {"eta": eta, **evolution})


class Evolved(LearningBrackets):
    """Brackets whose first rungs are mutants as soon as the population of that length has enough members."""

    learnt = "evolved"

    def __init__(
        self, space: Space, seed: int, brackets: Sequence[Sequence[Rung]], scale: float, crossover: float
    ):
        super().__init__(space, seed, brackets)
        self.scale, self.crossover = scale, crossover

    def new(self, epochs: int) -> Genotype:
        scored = sorted(self.seen.get(epochs, []), key=lambda one: -one[1])
        population = [choices for choices, _ in scored[: max(PARENTS + 1, len(scored) // 2)]]
        self.origin = "random"
        if not self.bracket or len(population) <= PARENTS:
            return super().new(epochs)
        for _ in range(ATTEMPTS):
            choices = self._mutant(population)
            if self.space.has_path(choices):
                genotype = self.space.decode(choices)
                if genotype.key() not in self.first and choices not in [known for known, _ in scored]:
                    self.origin = "evolved"
                    return genotype
        return super().new(epochs)

    def _mutant(self, population: list[list[int]]) -> list[int]:
        k = len(self.space.primitives)
        vectors = (np.array(population) + self.generator.random((len(population), self.space.choices))) / k
        a, b, c = vectors[1 + self.generator.permutation(len(population) - 1)[:PARENTS]]
        mutant = a + self.scale * (b - c)
        outside = (mutant < 0) | (mutant >= 1)
        mutant[outside] = self.generator.random(int(outside.sum()))
        from_mutant = self.generator.random(len(mutant)) < self.crossover
        from_mutant[self.generator.integers(len(mutant))] = True  # at least one coordinate
        return np.floor(k * np.where(from_mutant, mutant, vectors[0])).astype(int).tolist()
