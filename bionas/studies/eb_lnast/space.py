"""What EB-LNAST's upper level searches: number of hidden layers, neurons of each, activation (abstract).

A `LayerSpace` decodes a point of the unit cube to an `Architecture` and back. The abstract names what is searched, not its
ranges or its encoding: those here are ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from torch import nn

from bionas.errors import SearchError, UnknownName
from bionas.registry import Registry

ACTIVATIONS: Registry = Registry("activation")
for _name, _module in {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}.items():
    ACTIVATIONS.register(_name)(_module)


@dataclass(frozen=True, order=True)
class Architecture:
    """A network of fully connected layers.

    Attributes:
        neurons: of each hidden layer, from the input on.
        activation: after every hidden layer, a name of `ACTIVATIONS`.
        embedding: d_f of a metadata network's fields (Eq. 10); 0 where there are none.
    """

    neurons: tuple[int, ...]
    activation: str
    embedding: int = 0

    def __str__(self) -> str:
        fields = f"embedding {self.embedding}, " if self.embedding else ""
        return f"{fields}{'-'.join(map(str, self.neurons))} {self.activation}"

    def parameters(self, inputs: int, outputs: int) -> int:
        """Weights and biases between `inputs` features and `outputs` logits; embeddings are not counted here."""
        sizes = (inputs, *self.neurons, outputs)
        return sum((before + 1) * after for before, after in itertools.pairwise(sizes))


@dataclass(frozen=True)
class LayerSpace:
    """Architectures of 1 to `layers` hidden layers of 1 to `neurons` neurons, with one activation for all of them.

    A point of [0, 1]^D holds, in this order: the number of layers, the neurons of each possible layer (those past the
    last are not read), the activation, and d_f where `embedding` is not 0. Each range of integers is cut into
    intervals of equal length.

    Attributes:
        layers, neurons: the most there may be.
        activations: names of `ACTIVATIONS`.
        embedding: the largest d_f of a metadata network; 0 for a task of measurements.

    Raises:
        SearchError: an empty range.
        UnknownName: no such activation.
    """

    layers: int = 3
    neurons: int = 32
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    embedding: int = 0

    def __post_init__(self) -> None:
        if self.layers < 1 or self.neurons < 1 or not self.activations or self.embedding < 0:
            raise SearchError("a space needs at least one layer, one neuron and one activation.")
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise UnknownName("activation", name, ACTIVATIONS)

    @property
    def dimensions(self) -> int:
        return 1 + self.layers + 1 + (self.embedding > 0)

    def decode(self, point: np.ndarray) -> Architecture:
        """The architecture at `point` (D,)."""
        layers = _interval(point[0], self.layers) + 1
        return Architecture(
            neurons=tuple(_interval(gene, self.neurons) + 1 for gene in point[1 : 1 + layers]),
            activation=self.activations[_interval(point[1 + self.layers], len(self.activations))],
            embedding=_interval(point[2 + self.layers], self.embedding) + 1 if self.embedding else 0,
        )

    def encode(self, architecture: Architecture) -> np.ndarray:
        """A point (D,) that decodes to `architecture`: the middle of its intervals.

        Raises:
            SearchError: it is not in this space.
        """
        sizes, a = architecture.neurons, architecture
        fits = 1 <= len(sizes) <= self.layers and all(1 <= n <= self.neurons for n in sizes)
        if not (
            fits
            and a.activation in self.activations
            and min(self.embedding, 1) <= a.embedding <= self.embedding
        ):
            raise SearchError(f"{architecture} is not in the space of {self}.")
        point = np.full(self.dimensions, 0.5)
        point[0] = _middle(len(sizes) - 1, self.layers)
        point[1 : 1 + len(sizes)] = [_middle(n - 1, self.neurons) for n in sizes]
        point[1 + self.layers] = _middle(self.activations.index(a.activation), len(self.activations))
        if self.embedding:
            point[2 + self.layers] = _middle(a.embedding - 1, self.embedding)
        return point

    @property
    def largest(self) -> Architecture:
        """The architecture with the most parameters."""
        return Architecture((self.neurons,) * self.layers, self.activations[0], self.embedding)


def _interval(gene: float, n: int) -> int:
    return min(int(gene * n), n - 1)


def _middle(i: int, n: int) -> float:
    return (i + 0.5) / n
