"""Differential evolution (Storn & Price, 1997): the upper level of EB-LNAST, an option for the lower level.

The objective gets a whole generation at once, so that it may evaluate the population in one computation. The paper's
abstract says "evolutionary", and its index terms name "DE" and "DBB-GD"; the latter may stand for DE/best/1/bin above gradient
descent. Variant, F, CR, population and generations are our assumptions, declared in `Evolution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bionas.errors import SearchError, UnknownName

VARIANTS = ("rand/1/bin", "best/1/bin")
"""What a mutant starts from (a random member, or the best), with one difference and binomial crossover."""


@dataclass(frozen=True)
class Evolution:
    """The settings of a differential evolution.

    Attributes:
        population: members; at least 4, since a mutant is made of three others.
        generations: how often the whole population is tried against its trials; the first population is not counted.
        weight: F, the length of the difference that is added, in (0, 2].
        crossover: CR, the probability that a component comes from the mutant, in [0, 1].
        variant: a name of `VARIANTS`: what a mutant starts from, a random member or the best one.

    Raises:
        SearchError: a setting outside its range.
    """

    population: int = 16
    generations: int = 15
    weight: float = 0.7
    crossover: float = 0.9
    variant: str = "rand/1/bin"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UnknownName("variant", self.variant, VARIANTS)
        if self.population < 4:
            raise SearchError(f"population={self.population}: a mutant needs three others, so 4 or more.")
        if self.generations < 0 or not 0 < self.weight <= 2 or not 0 <= self.crossover <= 1:
            raise SearchError(
                f"generations={self.generations}, weight={self.weight}, crossover={self.crossover}: generations are 0 "
                "or more, the weight F is in (0, 2], the crossover probability CR in [0, 1]."
            )

    @property
    def evaluations(self) -> int:
        return self.population * (self.generations + 1)


class Evolved(NamedTuple):
    """The result of an evolution: best (D,), its value, the last population (P, D) and its values (P,)."""

    best: np.ndarray
    value: float
    population: np.ndarray
    values: np.ndarray


def minimise(
    objective: Callable[[np.ndarray], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    settings: Evolution,
    seed: int,
    *,
    first: np.ndarray | None = None,
    after: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
) -> Evolved:
    """Evolve a population in the box [low, high] towards a small objective.

    Args:
        objective: (P, D) -> (P,) values, called once per generation; NaN counts as infinitely bad.
        low, high: (D,) bounds.
        settings, seed: with the objective they decide the result.
        first: (P, D) the first population; uniform in the box where not given.
        after: called with (generation, population, values) after the first population and after each selection.
    """
    generator = np.random.default_rng(seed)
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    population = first if first is not None else generator.uniform(low, high, (settings.population, len(low)))
    values = _evaluated(objective, population)
    for generation in range(settings.generations + 1):
        if generation:
            parents = three_others(len(population), generator)
            if settings.variant == "best/1/bin":
                parents[:, 0] = np.argmin(values)
            mutants = inside(mutated(population, parents, settings.weight), population, low, high, generator)
            trials = crossed(population, mutants, crossing(population.shape, settings.crossover, generator))
            population, values = selected(population, values, trials, _evaluated(objective, trials))
        if after is not None:
            after(generation, population, values)
    best = int(np.argmin(values))
    return Evolved(population[best].copy(), float(values[best]), population, values)


def three_others(members: int, generator: np.random.Generator) -> np.ndarray:
    """(P, 3) for each member three different ones, none of them itself."""
    return np.array(
        [generator.choice(np.delete(np.arange(members), i), 3, replace=False) for i in range(members)]
    )


def mutated(population: np.ndarray, parents: np.ndarray, weight: float) -> np.ndarray:
    """v_i = x_a + F (x_b - x_c), (P, D), where a, b, c are the columns of `parents` (P, 3)."""
    a, b, c = population[parents.T]
    return a + weight * (b - c)


def inside(
    mutants: np.ndarray,
    population: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """A component that left the box is put at random between its parent's and the bound it crossed."""
    share = generator.random(mutants.shape)
    mutants = np.where(mutants < low, low + share * (population - low), mutants)
    return np.where(mutants > high, high - share * (high - population), mutants)


def crossing(shape: tuple[int, int], crossover: float, generator: np.random.Generator) -> np.ndarray:
    """bool (P, D), True where the mutant's component is taken: with probability CR, and always in one random place."""
    mask = generator.random(shape) < crossover
    mask[np.arange(shape[0]), generator.integers(shape[1], size=shape[0])] = True
    return mask


def crossed(population: np.ndarray, mutants: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The trials of binomial crossover, (P, D)."""
    return np.where(mask, mutants, population)


def selected(
    population: np.ndarray, values: np.ndarray, trials: np.ndarray, trial_values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A trial takes its own target's place where it is not worse: f(u_i) <= f(x_i). Equal ones move on plateaus."""
    better = trial_values <= values
    return np.where(better[:, None], trials, population), np.where(better, trial_values, values)


def _evaluated(objective: Callable[[np.ndarray], np.ndarray], population: np.ndarray) -> np.ndarray:
    values = np.asarray(objective(population), dtype=float)
    if values.shape != (len(population),):
        raise ValueError(f"the objective gave shape {values.shape} for a population of {len(population)}")
    return np.where(np.isnan(values), np.inf, values)
