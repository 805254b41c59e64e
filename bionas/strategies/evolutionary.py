"""Regularised evolution: the oldest member is removed, not the worst (Real et al., AAAI 2019, Algorithm 1)."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import (
    Sampler,
    SearchResult,
    candidates_within,
    generator_state,
    search_candidates,
    set_generator_state,
    strategy,
)
from bionas.strategies.space import Space

LARGEST = 16
"""Upper limit of the default population."""


@strategy("evolutionary")
def evolutionary(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    population: int | None = None,
    tournament: int = 5,
) -> SearchResult:
    """Ageing evolution with tournament selection; a child differs from its parent on one edge.

    Real et al. used populations of 100 and samples of 25 for 20,000 candidates; here there are tens.

    Args:
        population: P. The first P members are random; then each new child replaces the oldest member. By default a third
            of the candidates within the budget, between 2 and `LARGEST`: a population as large as the budget would be
            random search. The trace counts the members since replaced (`updates`).
        tournament: S members drawn with replacement, the best of which is the parent.

    Raises:
        SearchError: P or S under 1.
    """
    if population is None:
        population = min(LARGEST, max(2, candidates_within(budget, evaluate) // 3))
    options = {"population": population, "tournament": tournament}
    return search_candidates(
        "evolutionary", Ageing(space, seed, **options), space, evaluate, budget, seed, folder, options
    )


class Ageing(Sampler):
    """The population, from the oldest member to the youngest."""

    def __init__(self, space: Space, seed: int, population: int, tournament: int):
        if population < 1 or tournament < 1:
            raise SearchError(f"population={population} and tournament={tournament}: both are at least 1.")
        self.space, self.generator = space, np.random.default_rng(seed)
        self.population, self.tournament = population, tournament
        self.members: deque[tuple[list[int], float, int]] = deque()  # choices, score, serial number
        self.observed = 0
        self.parent: tuple[list[int], float, int] | None = None

    def propose(self) -> Genotype:
        if self.observed < self.population or self.space.distinct == 1:
            self.parent = None
            return self.space.random(self.generator)
        drawn_members = self.generator.integers(len(self.members), size=self.tournament)
        self.parent = max((self.members[i] for i in drawn_members), key=lambda member: member[1])
        return self.space.mutate(self.space.decode(self.parent[0]), self.generator)

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.members.append((self.space.encode(genotype).tolist(), float(score), self.observed))
        if len(self.members) > self.population:
            self.members.popleft()
        self.observed += 1
        updates = max(0, self.observed - self.population)
        if self.parent is None:
            return {"parent": "", "parent_age": -1, "updates": updates}
        return {
            "updates": updates,
            "parent": self.space.decode(self.parent[0]).key(),
            "parent_age": self.observed - 1 - self.parent[2],
        }

    def state(self) -> dict[str, Any]:
        return {
            "generator": generator_state(self.generator),
            "members": [list(m) for m in self.members],
            "observed": self.observed,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.members, self.observed = deque(tuple(m) for m in state["members"]), state["observed"]
        set_generator_state(self.generator, state["generator"])
