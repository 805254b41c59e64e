"""REINFORCE: a recurrent controller rewarded by children that are trained one by one (Zoph and Le 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.controller import PolicyGradient
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import Sampler, SearchResult, search_candidates, strategy
from bionas.strategies.space import Space


@strategy("reinforce")
def reinforce(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    children: int = 4,
    learning_rate: float = 0.05,
    entropy_weight: float = 0.05,
    baseline_decay: float = 0.9,
    hidden: int = 64,
) -> SearchResult:
    """Children are drawn from the controller, trained and scored, and the controller is moved towards the better ones.

    The best child is the answer. Zoph and Le trained 12,800 children at a rate of 6e-4; tens of children need larger steps.

    Args:
        children: scored between two steps of the controller.
        learning_rate, entropy_weight, baseline_decay, hidden: see `PolicyGradient`.

    Raises:
        SearchError: fewer than one child a step.
    """
    options = {
        "children": children,
        "learning_rate": learning_rate,
        "entropy_weight": entropy_weight,
        "baseline_decay": baseline_decay,
        "hidden": hidden,
    }
    return search_candidates(
        "reinforce", Policy(space, seed, **options), space, evaluate, budget, seed, folder, options
    )


class Policy(Sampler):
    """Children in batches: drawn together, and learnt from together."""

    def __init__(self, space: Space, seed: int, children: int, **options: Any):
        if children < 1:
            raise SearchError(f"children={children}: the controller learns from at least 1 at a time.")
        self.space, self.children = space, children
        self.policy = PolicyGradient(space, seed, **options)
        self.batch = self.policy.sample(children)
        self.scores: list[float] = []
        self.learnt = {"controller_loss": float("nan"), "entropy": float("nan"), "baseline": float("nan")}

    def propose(self) -> Genotype:
        return self.space.decode(self.batch[len(self.scores)])

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.scores.append(float(score))
        if len(self.scores) == self.children:
            self.learnt = self.policy.update(self.batch, self.scores)
            self.batch, self.scores = self.policy.sample(self.children), []
        return self.learnt

    def state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state(),
            "batch": self.batch.tolist(),
            "scores": self.scores,
            "learnt": self.learnt,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_state(state["policy"])
        self.batch, self.scores = np.array(state["batch"]), list(state["scores"])
        self.learnt = state["learnt"]
