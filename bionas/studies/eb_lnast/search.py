"""EB-LNAST's upper level: the smallest network that still predicts well.

"The upper level focuses on minimizing the network complexity penalized by the lower level performance function"
(abstract). Read here as

    f(a) = parameters(a) / parameters(largest of the space) + penalty * (1 - performance(a))

with the mean accuracy over inner folds as performance. With the default penalty of 10, one point of accuracy is worth a
tenth of the largest network. The abstract gives no formula: this one is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from torch import nn

from bionas.errors import SearchError
from bionas.studies.eb_lnast.evolution import Evolution, minimise
from bionas.studies.eb_lnast.space import Architecture, LayerSpace

PENALTY = 10.0


class LowerLevel(Protocol):
    """What the upper level asks: sizes, performances, and in the end one trained network."""

    def parameters(self, architecture: Architecture) -> int: ...

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray: ...

    def final(self, architecture: Architecture) -> nn.Module: ...


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        architecture: of the smallest objective.
        network: that architecture, trained on all rows that the lower level has.
        parameters: of that network.
        history: one row per generation and member: generation, member, architecture, layers, neurons (all hidden ones
            together), activation, parameters, performance, objective.
        trained: different architectures that the lower level trained.
    """

    architecture: Architecture
    network: nn.Module
    parameters: int
    history: pd.DataFrame
    trained: int


def search(
    space: LayerSpace,
    lower: LowerLevel,
    evolution: Evolution,
    seed: int,
    *,
    penalty: float = PENALTY,
    after: Callable[[int], None] | None = None,
) -> Found:
    """Search `space` by differential evolution, then train what was found on everything.

    Architectures that come up again are not trained again: the lower level would give them the same performance.

    Args:
        penalty: what one of performance is worth in shares of the largest network's parameters.
        after: called with the generation that is complete.

    Raises:
        SearchError: a penalty that is not positive.
    """
    if not penalty > 0:
        raise SearchError(f"penalty={penalty}: without a positive penalty the smallest network always wins.")
    known: dict[Architecture, float] = {}
    largest = lower.parameters(space.largest)
    history: list[dict] = []

    def objective_of(architecture: Architecture) -> float:
        return lower.parameters(architecture) / largest + penalty * (1 - known[architecture])

    def objective(points: np.ndarray) -> np.ndarray:
        architectures = [space.decode(point) for point in points]
        if new := [a for a in dict.fromkeys(architectures) if a not in known]:
            known.update(zip(new, map(float, lower(new)), strict=True))
        return np.array([objective_of(a) for a in architectures])

    def keep(generation: int, points: np.ndarray, values: np.ndarray) -> None:
        for member, (point, value) in enumerate(zip(points, values)):
            a = space.decode(point)
            history.append(
                {
                    "generation": generation,
                    "member": member,
                    "architecture": str(a),
                    "layers": len(a.neurons),
                    "neurons": sum(a.neurons),
                    "activation": a.activation,
                    "parameters": lower.parameters(a),
                    "performance": known[a],
                    "objective": float(value),
                }
            )
        if after is not None:
            after(generation)

    box = np.ones(space.dimensions)
    best = space.decode(minimise(objective, 0 * box, box, evolution, seed, after=keep).best)
    return Found(best, lower.final(best), lower.parameters(best), pd.DataFrame(history), len(known))
