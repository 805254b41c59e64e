"""Successive halving: many candidates for few epochs, the best of them for more (Jamieson and Talwalkar, AISTATS 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.evaluators import FIDELITIES, Evaluator
from bionas.strategies.searching import (
    Sampler,
    SearchResult,
    Trial,
    generator_state,
    require,
    require_budget,
    search_candidates,
    set_generator_state,
    strategy,
)
from bionas.strategies.space import Space


class Rung(NamedTuple):
    """One level of a bracket: `candidates` genotypes, each trained from scratch for `epochs`."""

    epochs: int
    candidates: int


@strategy("halving", needs=FIDELITIES)
def halving(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    eta: float = 3.0,
    rungs: Sequence[int] | None = None,
) -> SearchResult:
    """One bracket of successive halving over random genotypes; the best of those trained longest is the result.

    Candidates are trained from scratch on every rung, since a schedule of 5 epochs is not the beginning of one of 15. The
    evaluator decides their size: with `PlanEvaluator(at_target=True)` they are ranked at the cost of the final network.

    Args:
        eta: 1 / eta of a rung's candidates reach the next, and are trained eta times as long.
        rungs: epochs of each rung, ascending; by default the evaluator's epochs divided by 1, eta, eta^2, ..., at least 1.

    Raises:
        SearchError: eta of 1 or less, rungs that do not ascend, or a budget below one candidate on every rung.
    """
    require("halving", evaluate)
    bracket = first_bracket(evaluate, budget, eta, rungs)
    options = {"eta": eta, "rungs": [list(rung) for rung in bracket]}
    sampler, cheapest = Brackets(space, seed, [bracket]), evaluate.at(bracket[0].epochs).images
    return search_candidates("halving", sampler, space, evaluate, budget, seed, folder, options, cheapest)


def default_rungs(epochs: int, eta: float) -> list[int]:
    """Ascending numbers of epochs that end at `epochs`: epochs / eta^k, rounded, without repetitions."""
    if eta <= 1:
        raise SearchError(f"eta={eta:g}: it is the factor between two rungs. Give more than 1.")
    found, k = [epochs], 1
    while (shorter := round(epochs / eta**k)) >= 1:
        if shorter < found[0]:
            found.insert(0, shorter)
        k += 1
    return found


def first_bracket(
    evaluate: Evaluator, budget: int, eta: float, rungs: Sequence[int] | None = None
) -> list[Rung]:
    """The largest bracket whose rungs all fit into the budget of training images."""
    epochs = list(rungs) if rungs else default_rungs(evaluate.epochs, eta)
    if epochs != sorted(set(epochs)) or epochs[0] < 1:
        raise SearchError(f"rungs={epochs}: give ascending numbers of epochs, the first at least 1.")
    images = [evaluate.at(n).images for n in epochs]
    require_budget(budget, sum(images), f"one candidate on each rung ({', '.join(map(str, epochs))} epochs)")

    def sized(first: int) -> list[int]:
        return [max(1, int(first / eta**k)) for k in range(len(epochs))]

    first = 1
    while sum(n * cost for n, cost in zip(sized(first + 1), images)) <= budget:
        first += 1
    return [Rung(n, candidates) for n, candidates in zip(epochs, sized(first))]


def halved_brackets(
    evaluate: Evaluator, budget: int, eta: float, rungs: Sequence[int] | None = None
) -> list[list[Rung]]:
    """A bracket with half of the budget and two with a quarter each, for strategies that learn between brackets.

    A small budget pays for fewer, two halves or one bracket: a bracket that is not the only one has at least eta^2
    candidates on its first rung, since with fewer each rung hardly chooses.
    """
    for shares in ((budget // 2, budget // 4, budget // 4), (budget // 2, budget // 2)):
        try:
            brackets = [first_bracket(evaluate, share, eta, rungs) for share in shares]
        except SearchError:  # a share pays for no bracket
            continue
        if brackets[-1][0].candidates >= eta**2:
            return brackets
    return [first_bracket(evaluate, budget, eta, rungs)]


class Brackets(Sampler):
    """Brackets one after the other; the first rung of each is filled by `new`, random genotypes here.

    Attributes:
        seen: scores by rung length: epochs -> [(choices, score)], of all brackets so far.
    """

    def __init__(self, space: Space, seed: int, brackets: Sequence[Sequence[Rung]]):
        self.space, self.generator = space, np.random.default_rng(seed)
        self.brackets = [[Rung(*rung) for rung in bracket] for bracket in brackets]
        self.bracket = self.rung = 0
        self.scored: list[tuple[list[int], float]] = []  # of the present rung
        self.promoted: list[list[int]] = []  # choices of the present rung, where it is not the first
        self.first: list[str] = []  # keys on the first rung of the present bracket
        self.seen: dict[int, list[tuple[list[int], float]]] = {}

    def propose(self) -> Trial | None:
        if self.bracket >= len(self.brackets):
            return None
        rung = self.brackets[self.bracket][self.rung]
        if self.rung:
            return Trial(self.space.decode(self.promoted[len(self.scored)]), rung.epochs)
        return Trial(self.new(rung.epochs), rung.epochs)

    def new(self, epochs: int) -> Genotype:
        """A genotype for a first rung: random, other than those already on it where the space has others."""
        while (genotype := self.space.random(self.generator)).key() in self.first:
            if len(set(self.first)) >= self.space.distinct:
                break
        return genotype

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        rungs = self.brackets[self.bracket]
        epochs, columns = rungs[self.rung].epochs, {"bracket": self.bracket, "rung": self.rung}
        scored = (self.space.encode(genotype).tolist(), float(score))
        self.scored.append(scored)
        self.seen.setdefault(epochs, []).append(scored)
        if not self.rung:
            self.first.append(genotype.key())
        if len(self.scored) >= rungs[self.rung].candidates:
            ranked = sorted(self.scored, key=lambda one: -one[1])  # stable: ties keep the order of scoring
            self.scored, self.rung = [], self.rung + 1
            if self.rung < len(rungs):
                self.promoted = [choices for choices, _ in ranked[: rungs[self.rung].candidates]]
            else:
                self.bracket, self.rung, self.first, self.promoted = self.bracket + 1, 0, [], []
        return columns

    def state(self) -> dict[str, Any]:
        return {
            "generator": generator_state(self.generator),
            "bracket": self.bracket,
            "rung": self.rung,
            "scored": [list(one) for one in self.scored],
            "promoted": self.promoted,
            "first": self.first,
            "seen": {str(epochs): [list(one) for one in scored] for epochs, scored in self.seen.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        set_generator_state(self.generator, state["generator"])
        self.bracket, self.rung = state["bracket"], state["rung"]
        self.scored = [tuple(one) for one in state["scored"]]
        self.promoted, self.first = state["promoted"], state["first"]
        self.seen = {int(n): [tuple(one) for one in scored] for n, scored in state["seen"].items()}


class LearningBrackets(Brackets):
    """Brackets whose later first rungs are made from what was scored: the trace says which candidates, and counts them.

    Attributes:
        learnt: the origin of a candidate that was made from scored ones.
        origin: of the last proposal on a first rung; `new` sets it.
        updates: candidates made from scored ones so far.
    """

    learnt: str
    origin = "random"
    updates = 0

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        origin = "promoted" if self.rung else self.origin
        self.updates += bool(self.bracket) and origin == self.learnt
        return {**super().observe(genotype, score), "origin": origin, "updates": self.updates}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.updates = state["updates"]


def search_brackets(
    name: str,
    sampler: Brackets,
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int,
    folder: Path | None,
    options: dict[str, Any],
) -> SearchResult:
    """A whole search over the brackets of a sampler; its `options` are kept together with the brackets."""
    brackets = {"brackets": [[list(rung) for rung in bracket] for bracket in sampler.brackets]}
    cheapest = evaluate.at(sampler.brackets[0][0].epochs).images
    return search_candidates(
        name, sampler, space, evaluate, budget, seed, folder, options | brackets, cheapest
    )
