"""Single-path one-shot search: uniform sampling, then evolution on the supernet (SPOS; Guo et al., ECCV 2020)."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.differentiable import inner_run
from bionas.strategies.evaluators import SUPERNET, Evaluator, Supernet
from bionas.strategies.one_path import OnePathTrainer
from bionas.strategies.searching import (
    Sampler,
    SearchResult,
    conclude,
    finished,
    generator_state,
    open_run,
    require,
    require_budget,
    score_candidates,
    set_generator_state,
    strategy,
)
from bionas.strategies.space import Space
from bionas.training.runs import Run


@strategy("single_path", needs=SUPERNET)
def single_path(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    population: int = 12,
    generations: int = 4,
    mutation: float = 0.1,
    recalibration: int = 4,
) -> SearchResult:
    """The whole budget trains the supernet, each batch on one uniformly drawn path; then paths evolve by their validation
    accuracy with the shared weights, and the best is the result.

    Before a path is scored, batch normalisation is recalibrated: its running statistics are replaced by those of that path
    over some training batches. The trace holds the scored paths; the epochs are in supernet/history.csv.

    Args:
        population: paths per generation, half by crossover and half by mutation of the ten best so far. Guo et al. used 50
            over 20 generations; scoring costs forward passes, which a small budget cannot ignore.
        generations: the first is random.
        mutation: probability that an edge gets another primitive.
        recalibration: training batches per path.

    Raises:
        SearchError: the budget is below one epoch, the evaluator has no supernet, or an option below 1.
    """
    require("single_path", evaluate)
    if min(population, generations, recalibration) < 1 or not 0 < mutation <= 1:
        raise SearchError(
            f"population={population}, generations={generations}, recalibration={recalibration}, mutation={mutation:g}: "
            "the first three are at least 1, the last lies above 0 and at most at 1."
        )
    supernet = evaluate.supernet(space, seed)
    n_train = len(supernet.train)
    batch = 1 if isinstance(supernet.config.batch_size, str) else min(supernet.config.batch_size, n_train)
    per_epoch = n_train // batch * batch
    require_budget(budget, per_epoch, "one epoch of the supernet")
    evolution: dict[str, Any] = {"population": population, "generations": generations, "mutation": mutation}
    options: dict[str, Any] = {"epochs": budget // per_epoch, "recalibration": recalibration, **evolution}
    run = open_run(folder, "single_path", space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    config = dataclasses.replace(supernet.config, epochs=options["epochs"])
    with inner_run(run) as inner:
        trainer = UniformPaths(
            supernet._replace(config=config), inner, space, {}, recalibration=recalibration
        )
        trainer.train()
        spent = sum(epoch["images"] for epoch in trainer.history)
        inner.finish({"epochs": trainer.epoch, "images_seen": spent})  # its weights may be inherited
    sampler = Generations(space, seed, **evolution)
    result = score_candidates("single_path", sampler, space, trainer.scored, run, budget, cost=0, spent=spent)
    return conclude(run, result._replace(stopped="the budget is spent"))


class UniformPaths(OnePathTrainer):
    """A supernet trained on uniformly drawn paths, scored with recalibrated batch normalisation."""

    phase = "single_path"

    def __init__(
        self, supernet: Supernet, run: Run, space: Space, options: dict[str, Any], *, recalibration: int
    ):
        self.generator, self.recalibration = np.random.default_rng(supernet.config.seed), recalibration
        super().__init__(supernet, run, space, options)

    def next_path(self) -> np.ndarray:
        return self.space.encode(self.space.random(self.generator))

    def shown_path(self) -> np.ndarray:
        return self.space.encode(self.space.random(np.random.default_rng(self.config.seed)))

    def of_path(self, choices: np.ndarray) -> dict[str, float]:
        """val_loss and val_accuracy of one path with the shared weights, batch normalisation recalibrated for it."""
        self.choose(choices)
        norms = [module for module in self.supernet.modules() if isinstance(module, nn.BatchNorm2d)]
        kept = [(norm.momentum, {name: b.clone() for name, b in norm.named_buffers()}) for norm in norms]
        self.supernet.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        with torch.no_grad():
            batches = itertools.islice(self.train_loader.epoch(0), self.recalibration)
            for i, batch in enumerate(map(self.to_device, batches)):
                for norm in norms:
                    norm.momentum = 1 / (i + 1)  # a plain average over the batches
                self.model(batch.image, batch.metadata)
        self.supernet.eval()
        found = self._on_validation()
        for norm, (momentum, buffers) in zip(norms, kept):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
        return found

    def state(self) -> dict[str, Any]:
        return super().state() | {"generator": generator_state(self.generator)}

    def load_state(self, state: dict[str, Any]) -> None:
        set_generator_state(self.generator, state["generator"])
        super().load_state(state)


class Generations(Sampler):
    """Generations of `population` paths; from the second on half by crossover, half by mutation of the best so far."""

    PARENTS = 10
    ATTEMPTS = 100

    def __init__(self, space: Space, seed: int, population: int, generations: int, mutation: float):
        self.space, self.generator = space, np.random.default_rng(seed)
        self.population, self.generations, self.mutation = population, generations, mutation
        self.scored: list[tuple[list[int], float]] = []

    def propose(self) -> Genotype | None:
        generation, position = divmod(len(self.scored), self.population)
        seen = {self.space.decode(choices).key() for choices, _ in self.scored}
        if generation >= self.generations or len(seen) >= self.space.distinct:
            return None
        if generation:
            for _ in range(self.ATTEMPTS):
                choices = self._crossed() if position < self.population // 2 else self._mutated()
                if self.space.has_path(choices) and self.space.decode(choices).key() not in seen:
                    return self.space.decode(choices)
        while (genotype := self.space.random(self.generator)).key() in seen:
            pass
        return genotype

    def _parents(self) -> np.ndarray:
        ranked = sorted(self.scored, key=lambda one: -one[1])[: self.PARENTS]
        return np.array([choices for choices, _ in ranked])

    def _crossed(self) -> np.ndarray:
        parents = self._parents()
        mother, father = parents[self.generator.integers(len(parents), size=2)]
        return np.where(self.generator.random(len(mother)) < 0.5, mother, father)

    def _mutated(self) -> np.ndarray:
        parents = self._parents()
        choices = parents[self.generator.integers(len(parents))].copy()
        changed = self.generator.random(len(choices)) < self.mutation
        changed[self.generator.integers(len(choices))] = True  # at least one edge
        choices[changed] = self.generator.integers(len(self.space.primitives), size=int(changed.sum()))
        return choices

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        generation = len(self.scored) // self.population
        self.scored.append((self.space.encode(genotype).tolist(), float(score)))
        return {"generation": generation}

    def state(self) -> dict[str, Any]:
        return {"generator": generator_state(self.generator), "scored": [list(one) for one in self.scored]}

    def load_state(self, state: dict[str, Any]) -> None:
        set_generator_state(self.generator, state["generator"])
        self.scored = [tuple(one) for one in state["scored"]]
