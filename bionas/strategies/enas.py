"""ENAS: the controller of REINFORCE, with all children sharing the weights of one supernet (Pham et al., ICML 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bionas.genotype import Genotype
from bionas.strategies.controller import PolicyGradient
from bionas.strategies.differentiable import inner_run
from bionas.strategies.evaluators import SUPERNET, Evaluator, Supernet
from bionas.strategies.one_path import OnePathTrainer, batch_statistics
from bionas.strategies.searching import (
    Sampler,
    SearchResult,
    conclude,
    finished,
    open_run,
    require,
    require_budget,
    score_candidates,
    strategy,
)
from bionas.strategies.space import Space
from bionas.training.runs import Run


@strategy("enas", needs=SUPERNET)
def enas(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    controller_steps: int = 30,
    finalists: int = 20,
    learning_rate: float = 0.005,
    entropy_weight: float = 0.02,
    baseline_decay: float = 0.95,
    hidden: int = 64,
) -> SearchResult:
    """An epoch trains the shared weights, each batch on one child drawn from the controller; then the controller takes its
    steps, each on the accuracy of one child on a validation batch. At the end children are drawn, scored with the shared
    weights on all of validation, and the best is the result.

    The trace holds these finalists. The epochs are in supernet/history.csv, with the controller's most probable child
    after each. Scores with shared weights are comparable with one another, not with those of children trained alone.
    Batch normalisation uses the batch's statistics when a child is scored (as in the authors' program): running ones
    are a mixture over children.

    Args:
        controller_steps: per epoch.
        finalists: children drawn at the end, isomorphic ones counted once.
        learning_rate, entropy_weight, baseline_decay, hidden: of the controller, see `PolicyGradient`.

    Raises:
        SearchError: the budget is under one epoch, or the evaluator has no supernet.
    """
    require("enas", evaluate)
    supernet = evaluate.supernet(space, seed)
    config, n_train = supernet.config, len(supernet.train)
    batch = 1 if isinstance(config.batch_size, str) else min(config.batch_size, n_train)
    an_epoch = n_train // batch * batch
    require_budget(budget, an_epoch, "one epoch of the supernet")
    policy_options: dict[str, Any] = {
        "learning_rate": learning_rate,
        "entropy_weight": entropy_weight,
        "baseline_decay": baseline_decay,
        "hidden": hidden,
    }
    own = {"controller_steps": controller_steps, **policy_options}
    options: dict[str, Any] = {"epochs": budget // an_epoch, "finalists": finalists, **own}
    run = open_run(folder, "enas", space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    policy = PolicyGradient(space, seed, **policy_options)
    config = dataclasses.replace(config, epochs=options["epochs"])
    with inner_run(run) as inner:
        trainer = SharedWeights(
            supernet._replace(config=config),
            inner,
            space,
            own,
            policy=policy,
            controller_steps=controller_steps,
        )
        trainer.train()
        spent = sum(epoch["images"] for epoch in trainer.history)
        inner.finish({"epochs": trainer.epoch, "images_seen": spent})  # its weights may be inherited
    result = score_candidates(
        "enas", Finalists(policy, finalists), space, trainer.scored, run, budget, cost=0, spent=spent
    )
    return conclude(run, result._replace(stopped="the budget is spent"))


class SharedWeights(OnePathTrainer):
    """The supernet and its controller: an epoch of weights, then steps of the controller.

    Args:
        supernet, run, space, options: as of `OnePathTrainer`.
        policy: the controller.
        controller_steps: its steps after each epoch of the weights.
    """

    phase = "enas"

    def __init__(
        self,
        supernet: Supernet,
        run: Run,
        space: Space,
        options: dict[str, Any],
        *,
        policy: PolicyGradient,
        controller_steps: int,
    ):
        self.policy, self.controller_steps = policy, controller_steps
        super().__init__(supernet, run, space, options)

    def setup(self) -> None:
        super().setup()
        self.reward_loader = self._loader(self.val_set, self.config.seed + 1, shuffle=True)

    def next_path(self) -> np.ndarray:
        return self.policy.sample()[0]

    def shown_path(self) -> np.ndarray:
        return self.policy.controller.likeliest()

    def after_batches(self, epoch: int) -> dict[str, Any]:
        rows = []
        with batch_statistics(self.supernet), torch.no_grad():
            for batch in self._reward_batches(epoch):
                choices = self.policy.sample()
                self.choose(choices[0])
                batch = self.to_device(batch)
                right = self.model(batch.image, batch.metadata).argmax(1) == batch.label
                with torch.enable_grad():
                    rows.append(self.policy.update(choices, [right.double().mean().item()]))
        self.model.train()
        learnt = pd.DataFrame(rows, columns=["controller_loss", "entropy", "baseline"]).mean().to_dict()
        likeliest = self.space.canonical(self.space.decode(self.policy.controller.likeliest()))
        return learnt | {"likeliest": likeliest.key()}

    def _reward_batches(self, epoch: int) -> Iterator[Any]:
        rounds = -(-self.controller_steps // len(self.reward_loader))
        batches = (b for i in range(rounds) for b in self.reward_loader.epoch(epoch * rounds + i))
        yield from (batch for batch, _ in zip(batches, range(self.controller_steps)))

    def state(self) -> dict[str, Any]:
        return super().state() | {"policy": self.policy.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_state(state["policy"])
        super().load_state(state)


class Finalists(Sampler):
    """`n` different genotypes drawn from a trained controller."""

    def __init__(self, policy: PolicyGradient, n: int):
        self.policy, self.n = policy, n
        self.seen: set[str] = set()

    def propose(self) -> Genotype | None:
        return (
            None if len(self.seen) >= self.n else self.policy.controller.space.decode(self.policy.sample()[0])
        )

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.seen.add(genotype.key())
        return {}

    def state(self) -> dict[str, Any]:
        return {"policy": self.policy.state(), "seen": sorted(self.seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_state(state["policy"])
        self.seen = set(state["seen"])
