"""REINFORCE: a recurrent controller rewarded by children that are trained one by one (Zoph and Le, ICLR 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.controller import PolicyGradient
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import (
    UPDATES,
    Sampler,
    SearchResult,
    candidates_within,
    search_candidates,
    strategy,
)
from bionas.strategies.space import Space

CHILDREN_PER_UPDATE = 4


@strategy("reinforce")
def reinforce(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    children: int | None = None,
    learning_rate: float = 0.05,
    entropy_weight: float = 0.05,
    baseline_decay: float = 0.9,
    hidden: int = 64,
) -> SearchResult:
    """Children are drawn from the controller, trained and scored, and the controller is updated towards the better ones.

    The best child is the result. Zoph and Le trained 12,800 children at a rate of 6e-4; tens of children need larger steps.

    Args:
        children: scored between two updates of the controller. By default 4, or fewer where the budget would then leave
            under `UPDATES` updates before the last children. The trace counts the updates so far.
        learning_rate, entropy_weight, baseline_decay, hidden: see `PolicyGradient`.

    Raises:
        SearchError: fewer than one child per update.
    """
    if children is None:
        children = min(CHILDREN_PER_UPDATE, max(1, candidates_within(budget, evaluate) // (UPDATES + 1)))
    options: dict[str, Any] = {
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
    """Children in batches: drawn together, one update of the controller per batch."""

    def __init__(self, space: Space, seed: int, children: int, **options: Any):
        if children < 1:
            raise SearchError(f"children={children}: the controller learns from at least 1 at a time.")
        self.space, self.children = space, children
        self.policy = PolicyGradient(space, seed, **options)
        self.batch = self.policy.sample(children)
        self.scores: list[float] = []
        self.last_update = {
            "controller_loss": float("nan"),
            "entropy": float("nan"),
            "baseline": float("nan"),
        }

    def propose(self) -> Genotype:
        return self.space.decode(self.batch[len(self.scores)])

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.scores.append(float(score))
        if len(self.scores) == self.children:
            self.last_update = self.policy.update(self.batch, self.scores)
            self.batch, self.scores = self.policy.sample(self.children), []
        return {**self.last_update, "updates": self.policy.updates}

    def state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state(),
            "batch": self.batch.tolist(),
            "scores": self.scores,
            "last_update": self.last_update,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_state(state["policy"])
        self.batch, self.scores = np.array(state["batch"]), list(state["scores"])
        self.last_update = state["last_update"]
