"""EB-LNAST's lower level: weights and biases of given architectures, and how well they then predict.

A lower level is called with architectures and returns the performance of each: its mean accuracy on the inner folds that
were held out. `GradientLevel` trains every architecture on every fold in one batched computation; `EvolutionLevel`
evolves the weights instead, which is feasible for small networks only. Both derive the initial seeds from the run's seed
and the architecture, so that its performance does not depend on which other architectures are trained.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from bionas.errors import SearchError
from bionas.studies.eb_lnast.evolution import Evolution, minimise
from bionas.studies.eb_lnast.population import Population, Training, losses, train
from bionas.studies.eb_lnast.space import Architecture, LayerSpace

INNER_FOLDS = 3
"""Inside every outer training part, for EB-LNAST and for every comparator that chooses something."""

STARTS = 5
"""Trainings of the network that is kept: a layer of two or three rectifiers may be inactive from its initialisation on."""

WEIGHT_BOUND, FIRST_BOUND = 5.0, 1.0
"""Box of the weights where they are evolved, and of the first population."""

OF_WEIGHTS = Evolution(population=40, generations=150, weight=0.5)
"""Settings of an evolution of weights."""

MOST_EVOLVED = 400
"""Parameters up to which differential evolution is tried at the lower level."""


@dataclasses.dataclass(frozen=True)
class GradientLevel:
    """Gradient training of all architectures on all inner folds at once.

    Attributes:
        x: (N, D) standardised features; y: (N,) labels 0 .. n_classes - 1.
        training: how each is trained.
        seed: of starts, folds and batches.
        folds: inner folds, stratified.
        starts: of the final training, all at once.
        keep: the weights found while an architecture was judged are those that are kept: `final` trains nothing. The
            abstract optimises architecture, weights and biases "simultaneously", which may mean this.
    """

    x: Tensor
    y: Tensor
    n_classes: int
    training: Training = dataclasses.field(default_factory=Training)
    seed: int = 0
    folds: int = INNER_FOLDS
    starts: int = STARTS
    keep: bool = False
    kept: dict[Architecture, nn.Sequential] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    def parameters(self, architecture: Architecture) -> int:
        return architecture.parameters(self.x.shape[1], self.n_classes)

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """(A,) mean accuracy on the rows of the inner folds."""
        held_out = inner_folds(self.y, self.folds, self.seed).repeat(len(architectures), 1)
        copies = [a for a in architectures for _ in range(self.folds)]
        seeds = [start_seed(self.seed, a, fold) for a in architectures for fold in range(self.folds)]
        population = Population(copies, self.x.shape[1], self.n_classes, seeds, self.x.dtype).to(
            self.x.device
        )
        train(population, self.x, self.y, self.training, self.seed, of_member=~held_out)
        with torch.no_grad():
            logits = population(self.x)
            right = logits.argmax(dim=2) == self.y
        if self.keep:
            best = losses(logits, self.y).view(-1, self.folds).argmin(dim=1).tolist()
            for i, (architecture, fold) in enumerate(zip(architectures, best, strict=True)):
                self.kept[architecture] = population.member(i * self.folds + fold)
        return _mean_over_folds(right, held_out, self.folds)

    def final(self, architecture: Architecture) -> nn.Sequential:
        """The architecture trained on all rows from several starts; the one of the smallest loss on these rows is kept.

        With `keep` that of the inner folds' networks of this architecture whose loss on all rows is smallest, as it stands.
        """
        if self.keep:
            return self.kept[architecture]
        seeds = [start_seed(self.seed, architecture, self.folds + start) for start in range(self.starts)]
        copies = [architecture] * self.starts
        population = Population(copies, self.x.shape[1], self.n_classes, seeds, self.x.dtype).to(
            self.x.device
        )
        train(population, self.x, self.y, self.training, self.seed)
        with torch.no_grad():
            return population.member(int(losses(population(self.x), self.y).argmin()))


@dataclasses.dataclass(frozen=True)
class EvolutionLevel:
    """Differential evolution of the weights and biases of small networks towards a small cross-entropy.

    Attributes: as of `GradientLevel`, with `evolution` in place of `training`; the network of each of its members is
        evaluated in one batched computation.
    """

    x: Tensor
    y: Tensor
    n_classes: int
    evolution: Evolution = OF_WEIGHTS
    seed: int = 0
    folds: int = INNER_FOLDS

    def parameters(self, architecture: Architecture) -> int:
        return architecture.parameters(self.x.shape[1], self.n_classes)

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """(A,) mean accuracy on the rows of the inner folds.

        Raises:
            SearchError: an architecture of more than `MOST_EVOLVED` parameters.
        """
        held_out = inner_folds(self.y, self.folds, self.seed)
        scores = []
        for architecture in architectures:
            networks = [self._evolved(architecture, ~out, fold) for fold, out in enumerate(held_out)]
            with torch.no_grad():
                right = torch.stack([network(self.x).argmax(dim=1) == self.y for network in networks])
            scores.append(_mean_over_folds(right, held_out, self.folds)[0])
        return np.array(scores)

    def final(self, architecture: Architecture) -> nn.Sequential:
        """The architecture evolved on all rows."""
        return self._evolved(architecture, torch.ones(len(self.y), dtype=torch.bool), self.folds)

    def _evolved(self, architecture: Architecture, rows: Tensor, fold: int) -> nn.Sequential:
        n = self.parameters(architecture)
        if n > MOST_EVOLVED:
            raise SearchError(
                f"{architecture} has {n:,} parameters: evolving weights is for networks of up to {MOST_EVOLVED}. Make "
                "the space smaller (`evolvable`), or train by gradients."
            )
        seed = start_seed(self.seed, architecture, fold)
        members = self.evolution.population
        population = Population(
            [architecture] * members, self.x.shape[1], self.n_classes, [0] * members, self.x.dtype
        )
        x, y = self.x[rows], self.y[rows]

        @torch.no_grad()
        def loss(vectors: np.ndarray) -> np.ndarray:
            population.load(torch.as_tensor(vectors, dtype=x.dtype))
            return losses(population(x), y).double().numpy()

        first = np.random.default_rng([seed, 1]).uniform(-FIRST_BOUND, FIRST_BOUND, (members, n))
        box = np.full(n, WEIGHT_BOUND)
        best = minimise(loss, -box, box, self.evolution, seed, first=first).best
        alone = Population([architecture], self.x.shape[1], self.n_classes, [0], self.x.dtype)
        alone.load(torch.as_tensor(best[None], dtype=x.dtype))
        return alone.member(0)


def evolvable(space: LayerSpace, level: EvolutionLevel) -> LayerSpace:
    """`space` with so few neurons a layer that the weights of its largest network may be evolved (`MOST_EVOLVED`).

    Raises:
        SearchError: not even one neuron a layer is few enough.
    """
    for neurons in range(space.neurons, 0, -1):
        smaller = dataclasses.replace(space, neurons=neurons)
        if level.parameters(smaller.largest) <= MOST_EVOLVED:
            return smaller
    raise SearchError(
        f"one neuron in each of {space.layers} layers is more than {MOST_EVOLVED} parameters: train by gradients."
    )


def inner_folds(y: Tensor, folds: int, seed: int) -> Tensor:
    """bool (folds, N): which rows each inner fold holds out, stratified.

    Raises:
        SearchError: a class has fewer rows than there are folds.
    """
    labels = y.cpu().numpy()
    if (fewest := int(np.bincount(labels)[np.unique(labels)].min())) < folds:
        raise SearchError(
            f"the smallest class has {fewest} training rows: {folds} inner folds need {folds} at least."
        )
    held_out = torch.zeros(folds, len(labels), dtype=torch.bool)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, out) in enumerate(splitter.split(labels, labels)):
        held_out[fold, torch.from_numpy(out)] = True
    return held_out.to(y.device)


def start_seed(seed: int, architecture: Architecture, fold: int) -> int:
    """The same on every machine for the same run, architecture and fold."""
    return zlib.crc32(f"{seed} {architecture} {fold}".encode())


def _mean_over_folds(right: Tensor, held_out: Tensor, folds: int) -> np.ndarray:
    """bool (A * folds, N) twice -> (A,) the mean over folds of the share that is right among the rows held out."""
    shares = (right & held_out).sum(dim=1).double() / held_out.sum(dim=1)
    return shares.view(-1, folds).mean(dim=1).cpu().numpy()
