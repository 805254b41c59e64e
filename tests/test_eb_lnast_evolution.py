"""EB-LNAST: differential evolution against its formulas and scipy's, the encoding, the objective of the upper level."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import differential_evolution
from torch import nn

from bionas.errors import SearchError, UnknownName
from bionas.studies.eb_lnast import evolution as de
from bionas.studies.eb_lnast.evolution import Evolution, minimise
from bionas.studies.eb_lnast.search import search
from bionas.studies.eb_lnast.space import Architecture, LayerSpace


def sphere(x):
    return (x**2).sum(axis=-1)


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(axis=-1)


def rastrigin(x):
    return (x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum(axis=-1)


def test_a_mutant_is_one_member_plus_f_times_the_difference_of_two_others():
    population = np.array([[0.0, 0.0], [1.0, 2.0], [4.0, 8.0], [3.0, 5.0]])
    mutants = de.mutated(population, np.array([[1, 2, 3], [0, 3, 2], [3, 1, 0], [2, 0, 1]]), 0.5)
    assert mutants.tolist() == [[1.5, 3.5], [-0.5, -1.5], [3.5, 6.0], [3.5, 7.0]]
    parents = de.three_others(7, np.random.default_rng(0))
    assert all(len({i, *row}) == 4 for i, row in enumerate(parents.tolist()))


def test_crossover_takes_at_least_one_component_of_the_mutant_and_all_where_cr_is_one():
    generator = np.random.default_rng(0)
    assert (de.crossing((50, 6), 0.0, generator).sum(axis=1) == 1).all()
    assert de.crossing((50, 6), 1.0, generator).all()
    assert de.crossing((4000, 11), 0.3, generator).mean() == pytest.approx(0.3 + 0.7 / 11, abs=0.01)
    trials = de.crossed(np.zeros((1, 3)), np.ones((1, 3)), np.array([[True, False, True]]))
    assert trials.tolist() == [[1, 0, 1]]


def test_a_trial_takes_its_targets_place_where_it_is_not_worse():  # f(u) <= f(x), ties move
    population, trials = np.array([[0.0], [1.0], [2.0]]), np.array([[10.0], [11.0], [12.0]])
    kept, values = de.selected(population, np.array([1.0, 1.0, 1.0]), trials, np.array([0.5, 1.0, 1.5]))
    assert kept.tolist() == [[10], [11], [2]] and values.tolist() == [0.5, 1, 1]


def test_what_left_the_box_lies_between_its_parent_and_the_bound_it_crossed():
    low, high, parents = np.zeros(3), np.ones(3), np.full((200, 3), 0.4)
    back = de.inside(np.tile([-3.0, 0.7, 9.0], (200, 1)), parents, low, high, np.random.default_rng(0))
    assert (back[:, 0] <= 0.4).all() and (back[:, 0] >= 0).all() and back[:, 0].std() > 0.05
    assert (back[:, 1] == 0.7).all() and (back[:, 2] >= 0.4).all() and (back[:, 2] <= 1).all()


@pytest.mark.parametrize(
    ("objective", "generations", "tolerance"),
    [(sphere, 90, 1e-4), (rosenbrock, 250, 1e-2), (rastrigin, 350, 1e-3)],
)
def test_standard_functions_are_solved_as_scipy_solves_them(objective, generations, tolerance):
    settings = Evolution(40, generations, weight=0.6, crossover=0.9)
    bound = np.full(4, 5.0)
    ours = [minimise(objective, -bound, bound, settings, seed) for seed in range(3)]
    theirs = [
        differential_evolution(
            lambda x: objective(x.T),
            [(-5, 5)] * 4,
            strategy="rand1bin",
            mutation=0.6,
            recombination=0.9,
            popsize=10,
            maxiter=generations,
            tol=0,
            polish=False,
            rng=seed,
            init="random",
            updating="deferred",
            vectorized=True,
        ).fun
        for seed in range(3)
    ]
    assert np.median(theirs) < tolerance and np.median([end.value for end in ours]) < tolerance
    assert all(end.value == objective(end.best) for end in ours)


def test_the_best_never_gets_worse_and_a_seed_repeats():
    lowest = []
    settings, bound = Evolution(8, 20), np.full(3, 5.0)
    first = minimise(rastrigin, -bound, bound, settings, 3, after=lambda g, p, v: lowest.append(v.min()))
    again = minimise(rastrigin, -bound, bound, settings, 3)
    assert len(lowest) == 21 and lowest == sorted(lowest, reverse=True)
    assert np.array_equal(first.population, again.population) and settings.evaluations == 8 * 21


@pytest.mark.parametrize("wrong", [{"population": 3}, {"weight": 0}, {"crossover": 1.5}, {"generations": -1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SearchError):
        Evolution(**wrong)


@pytest.mark.parametrize("embedding", [0, 5])
def test_every_architecture_survives_the_round_trip(embedding):
    space = LayerSpace(layers=2, neurons=3, activations=("tanh", "relu"), embedding=embedding)
    generator, seen = np.random.default_rng(0), set()
    for point in generator.random((3000, space.dimensions)):
        architecture = space.decode(point)
        seen.add(architecture)
        assert space.decode(space.encode(architecture)) == architecture
    assert len(seen) == (3 + 9) * 2 * max(embedding, 1)
    assert space.decode(np.ones(space.dimensions)).neurons == (
        3,
        3,
    )  # the upper edge belongs to the last interval


def test_an_architecture_outside_the_space_and_an_unknown_activation_are_refused():
    with pytest.raises(SearchError, match="not in the space"):
        LayerSpace(layers=1).encode(Architecture((3, 3), "relu"))
    with pytest.raises(UnknownName, match="tanh"):
        LayerSpace(activations=("tan",))


def test_parameters_are_those_of_the_network():
    network = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 3))
    assert Architecture((5, 2), "relu").parameters(7, 3) == sum(p.numel() for p in network.parameters())


class Known:
    """A lower level in which accuracy is known: 1 for eight neurons or more in all, an eighth less for each one fewer."""

    def __init__(self):
        self.asked = []

    def parameters(self, architecture):
        return architecture.parameters(4, 2)

    def __call__(self, architectures):
        self.asked += architectures
        return np.array([min(1.0, sum(a.neurons) / 8) for a in architectures])

    def final(self, architecture):
        return nn.Identity()


def test_the_upper_level_finds_the_smallest_that_performs():
    lower, space = Known(), LayerSpace(layers=2, neurons=12, activations=("relu", "tanh"))
    found = search(space, lower, Evolution(16, 40), seed=0)
    every = [
        Architecture(n, "relu")
        for n in [(i,) for i in range(1, 13)] + [(i, j) for i in range(1, 13) for j in range(1, 13)]
    ]
    largest = lower.parameters(space.largest)
    values = {a.neurons: a.parameters(4, 2) / largest + 10 * (1 - min(1, sum(a.neurons) / 8)) for a in every}
    assert found.architecture.neurons == min(values, key=values.get)
    last = found.history[found.history["generation"] == 40]
    assert last["objective"].min() == pytest.approx(min(values.values())) and len(last) == 16
    assert len(lower.asked) == len(set(lower.asked)) == found.trained  # nothing is trained twice


def test_without_a_penalty_there_is_nothing_to_search():
    with pytest.raises(SearchError, match="penalty"):
        search(LayerSpace(), Known(), Evolution(), 0, penalty=0)


def test_best_1_bin_starts_every_mutant_from_the_best_member():
    """On a sphere with F so small that differences vanish and CR = 1, every accepted trial equals the best member."""
    settings = Evolution(population=8, generations=1, weight=1e-12, crossover=1.0, variant="best/1/bin")
    box = np.full(3, 5.0)
    found = minimise(lambda x: (x**2).sum(axis=1), -box, box, settings, seed=0)
    assert np.allclose(found.population, found.best)
    spread = minimise(
        lambda x: (x**2).sum(axis=1), -box, box, dataclasses.replace(settings, variant="rand/1/bin"), seed=0
    )
    assert not np.allclose(spread.population, spread.best)
    with pytest.raises(UnknownName, match="best/1/bin"):
        Evolution(variant="best/1")
