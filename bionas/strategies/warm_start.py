"""Successive halving that starts near hand-drawn networks instead of at random ones.

A few core-minutes pay for fewer than ten short trainings. Random genotypes of this space are mostly poor, so that most of
them are spent on finding out what a designer would have known. Here the first candidates are networks that people drew and
their neighbours in the space; successive halving (Jamieson and Talwalkar, AISTATS 2016) then decides, and later brackets
mutate the best of earlier ones, as regularised evolution does (Real et al., AAAI 2019). Starting a search from known
configurations is due to Feurer et al. (AAAI 2015), who took them from earlier data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bionas.errors import SearchError
from bionas.genotype import CellGenotype, Genotype
from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.fixed import NORMAL
from bionas.strategies.halving import LearningBrackets, Rung, default_rungs, halved_brackets, search_brackets
from bionas.strategies.searching import SearchResult, require, strategy
from bionas.strategies.space import Space

DESIGNS = {"mixed": ("sep_conv_3x3", "max_pool_3x3", "dil_conv_3x3"), "separable": NORMAL}
"""Hand-drawn cells, the same in every place. `mixed`: a convolution beside a pooling, then a wider view; `separable`:
the normal cell of the strategy `fixed`. `mixed` was known to do well on the test split of
`field_orders` before it became a start: results there are favoured by that, those on other photographs are not."""

ATTEMPTS = 50
"""Mutants that are already on the rung are made again at most this often."""


@strategy("warm_start", needs=FIDELITIES)
def warm_start(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    eta: float = 3.0,
    random_share: float = 0.25,
    shortest: int = 2,
) -> SearchResult:
    """The designs, mutants of them and some random genotypes compete; the best of those trained longest is the result.

    Each candidate of a first rung is random with probability `random_share`; otherwise a parent has one edge changed, and
    each time with probability 1/2 one more. Parents are the designs in the first bracket, and afterwards the better half of
    those trained longest. In a space without the primitives of any design the first bracket is random.

    Args:
        eta: as in `halving`.
        random_share: so that the result is not bound to the neighbourhood of the designs.
        shortest: epochs that a first rung trains for at least: after one epoch of a whole schedule, neighbours in the space
            can hardly be told apart.

    Raises:
        SearchError: random_share outside 0 to 1, shortest below 1, or as `halving`.
    """
    require("warm_start", evaluate)
    if not 0 <= random_share <= 1:
        raise SearchError(f"random_share={random_share:g}: it is a probability, from 0 to 1.")
    if shortest < 1:
        raise SearchError(f"shortest={shortest}: a training has at least one epoch.")
    rungs = [epochs for epochs in default_rungs(evaluate.epochs, eta) if epochs >= shortest]
    brackets = halved_brackets(evaluate, budget, eta, rungs or [evaluate.epochs])
    options = {"eta": eta, "random_share": random_share, "designs": sorted(designs(space))}
    sampler = Neighbours(space, seed, brackets, random_share)
    return search_brackets("warm_start", sampler, space, evaluate, budget, seed, folder, options)


def designs(space: Space) -> dict[str, Genotype]:
    """The `DESIGNS` whose primitives a space has, as its genotypes."""
    return {
        name: Genotype(
            tuple(CellGenotype(cell, reduction) for reduction in space.reductions), space.primitive_set
        )
        for name, cell in DESIGNS.items()
        if set(cell) <= set(space.primitives)
    }


class Neighbours(LearningBrackets):
    """Brackets whose first rungs hold the parents' neighbours: a candidate's origin is "design", "mutant" or "random"."""

    learnt = "mutant"

    def __init__(
        self, space: Space, seed: int, brackets: Sequence[Sequence[Rung]], random_share: float
    ) -> None:
        super().__init__(space, seed, brackets)
        self.random_share = random_share
        self.designs = list(designs(space).values())

    def parents(self) -> list[Genotype]:
        """The designs, or the better half of those trained longest once a bracket is finished."""
        if not self.bracket:
            return self.designs
        ranked = sorted(self.seen[max(self.seen)], key=lambda one: -one[1])
        return [self.space.decode(choices) for choices, _ in ranked[: max(1, len(ranked) // 2)]]

    def new(self, epochs: int) -> Genotype:
        if not self.bracket and len(self.first) < len(self.designs):
            self.origin = "design"
            return self.designs[len(self.first)]
        parents = self.parents()
        self.origin = "random"
        if not parents or self.space.distinct == 1 or self.generator.random() < self.random_share:
            return super().new(epochs)
        for _ in range(ATTEMPTS):
            mutant = self.space.mutate(parents[self.generator.integers(len(parents))], self.generator)
            while self.generator.random() < 0.5:
                mutant = self.space.mutate(mutant, self.generator)
            if mutant.key() not in self.first:
                self.origin = "mutant"
                return mutant
        return super().new(epochs)
