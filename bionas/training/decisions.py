"""How far a search decided, and how far several searches agree: pure functions of alphas and genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bionas.errors import GenotypeError
from bionas.genotype import Genotype


@dataclass(frozen=True)
class Decisiveness:
    """How clearly one search decided. Without theta moving, margin is about 0 and entropy log K.

    Attributes:
        margins: (cells, 3), best alpha minus second best on each edge.
        entropy: (cells, 3), of alpha on each edge, in nats; between 0 (decided) and log K (uniform).
        mean_margin, least_margin, mean_entropy: over all edges.
    """

    margins: np.ndarray
    entropy: np.ndarray

    @property
    def mean_margin(self) -> float:
        return float(self.margins.mean())

    @property
    def least_margin(self) -> float:
        return float(self.margins.min())

    @property
    def mean_entropy(self) -> float:
        return float(self.entropy.mean())


def decisiveness(alphas: Any) -> Decisiveness:
    """Margins and entropy of alphas (cells, 3, K), an array or a tensor."""
    alphas = np.asarray(alphas.detach().cpu().double() if hasattr(alphas, "detach") else alphas, dtype=float)
    ordered = np.sort(alphas, axis=-1)
    logs = np.log(np.where(alphas > 0, alphas, 1.0))
    return Decisiveness(ordered[..., -1] - ordered[..., -2], -(alphas * logs).sum(axis=-1))


def agreement(genotypes: Sequence[Genotype]) -> float:
    """Mean over all pairs of searches of the share of edges with the same primitive; 1 where all found the same.

    Two uniformly random genotypes of K primitives agree on about 1/K of their edges. NaN for fewer than two genotypes.

    Raises:
        GenotypeError: genotypes of different depths.
    """
    if len({len(genotype) for genotype in genotypes}) > 1:
        raise GenotypeError("agreement needs genotypes of the same number of cells.")
    if len(genotypes) < 2:
        return float("nan")
    chosen = np.array([[cell.operations for cell in genotype.cells] for genotype in genotypes])
    pairs = [(i, j) for i in range(len(chosen)) for j in range(i)]
    return float(np.mean([(chosen[i] == chosen[j]).mean() for i, j in pairs]))
