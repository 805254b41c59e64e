"""ENAS: the controller of REINFORCE, but all children share the weights of one supernet (Pham et al. 2018)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from bionas.genotype import Genotype
from bionas.network import SearchNetwork
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.metadata import MetadataEncoding
from bionas.strategies.controller import PolicyGradient
from bionas.strategies.evaluators import SUPERNET, Evaluator, Score
from bionas.strategies.gradient import inner_run
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
from bionas.training.loop import Tally, Trainer, adamw
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run

CERTAIN = -1e4
"""theta of what is not chosen: its alpha is exactly 0 and the supernet does not compute it."""


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
    weights on all of validation, and the best is the answer.

    The trace holds these finalists. The epochs are in supernet/history.csv, with the child that the controller thought
    likeliest after each. Scores are those of shared weights: comparable with one another, not with children trained
    alone. Batch normalisation takes the batch's statistics when a child is scored (as in the authors' program): running
    ones are a mixture over children.

    Args:
        controller_steps: an epoch.
        finalists: children drawn at the end, isomorphic ones counted once.
        learning_rate, entropy_weight, baseline_decay, hidden: of the controller, see `PolicyGradient`.

    Raises:
        SearchError: the budget is under one epoch, or the evaluator has no supernet.
    """
    require("enas", evaluate)
    supernet = evaluate.supernet(space, seed)
    config, n_train = supernet.config, len(supernet.train)
    batch = 1 if config.batch_size == "auto" else min(config.batch_size, n_train)
    an_epoch = n_train // batch * batch
    require_budget(budget, an_epoch, "one epoch of the supernet")
    policy_options = {
        "learning_rate": learning_rate,
        "entropy_weight": entropy_weight,
        "baseline_decay": baseline_decay,
        "hidden": hidden,
    }
    own = {"controller_steps": controller_steps, **policy_options}
    options = {"epochs": budget // an_epoch, "finalists": finalists, **own}
    run = open_run(folder, "enas", space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    policy = PolicyGradient(space, seed, **policy_options)
    config = dataclasses.replace(config, epochs=options["epochs"])
    with inner_run(run) as inner:
        sides = supernet.train, supernet.val, supernet.encoding
        description = {**supernet.description, **own}
        trainer = SharedWeights(supernet.model, *sides, config, inner, description, policy, controller_steps)
        trainer.train()
        spent = sum(epoch["images"] for epoch in trainer.history)
        inner.finish({"epochs": trainer.epoch, "images_seen": spent})  # its weights may be inherited
    result = score_candidates(
        "enas", Finalists(policy, finalists), space, trainer.scored, run, budget, cost=0, spent=spent
    )
    return conclude(run, result._replace(stopped="the budget is spent"))


class SharedWeights(Trainer):
    """The supernet and its controller, an epoch of each in turn.

    Args:
        model, train, val, encoding, config, run, description: as of `trainer.Fit`; the model is the supernet.
        policy: the controller.
        controller_steps: its steps after each epoch of the weights.
    """

    phase = "enas"
    model: SearchNetwork

    def __init__(
        self,
        model: SearchNetwork,
        train: SpecimenSet,
        val: SpecimenSet,
        encoding: MetadataEncoding,
        config: FitConfig,
        run: Run,
        description: dict[str, Any],
        policy: PolicyGradient,
        controller_steps: int,
    ):
        self.supernet, self.policy, self.space = model, policy, policy.controller.space
        self.controller_steps = controller_steps
        model.theta.requires_grad_(False)  # it says which child is computed, and is not learnt
        super().__init__(model, train, val, encoding, config, run, description)
        self.reward_loader = self._loader(self.val_set, self.config.seed + 1, shuffle=True)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"w": adamw(self.supernet.weights(), self.config)}

    def count_steps(self) -> int:
        return len(self.train_loader)

    def choose(self, choices: np.ndarray) -> None:
        """Make the supernet compute one child: choices (L,)."""
        theta = torch.full_like(self.supernet.theta, CERTAIN)
        rows = torch.as_tensor(choices, device=theta.device).reshape(theta.shape[:2])
        with torch.no_grad():
            self.supernet.theta.copy_(theta.scatter(2, rows[:, :, None], 0.0))

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        tally, weights = Tally(self), self.supernet.weights()
        for step, batch in enumerate(map(self.to_device, self.train_loader.epoch(epoch))):
            self.choose(self.policy.sample()[0])
            loss, right = self.loss(batch)
            tally.add(step, loss, right, len(batch.label))
            self.update("w", weights, loss)
            bar.set_postfix(step=f"{step + 1}/{self.steps_per_epoch}", refresh=False)
        return tally.row() | self._train_controller(epoch)

    def _train_controller(self, epoch: int) -> dict[str, Any]:
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

    def validate(self) -> dict[str, float]:
        """Loss and accuracy of the likeliest child on all of validation, with the shared weights."""
        return self.of_child(self.policy.controller.likeliest())

    def of_child(self, choices: np.ndarray) -> dict[str, float]:
        """val_loss and val_accuracy of one child with the shared weights."""
        self.choose(choices)
        loss = right = 0.0
        with batch_statistics(self.supernet), torch.no_grad():
            for batch in map(self.to_device, self.val_loader.epoch(0)):
                logits = self.model(batch.image, batch.metadata).float()
                smoothing = self.config.label_smoothing
                loss += F.cross_entropy(
                    logits, batch.label, label_smoothing=smoothing, reduction="sum"
                ).item()
                right += (logits.argmax(1) == batch.label).sum().item()
        n = len(self.val_set)
        return {"val_loss": loss / n, "val_accuracy": right / n}

    def scored(self, genotype: Genotype) -> Score:
        """A child with the shared weights: no image is trained on."""
        found = self.of_child(self.space.encode(genotype))
        return Score(found["val_accuracy"], 0, {"val_loss": found["val_loss"]})

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


@contextlib.contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Inference, but batch normalisation uses each batch's statistics and keeps no account of them."""
    network.eval()
    norms = [(module, module.momentum) for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm, _ in norms:
        norm.train()
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.eval()
            norm.momentum = momentum
