"""A whole population of small networks of different shapes, trained in one batched computation.

The networks of a generation have a few hundred parameters each. Trained one after the other, a step costs mostly the
launch of its operations. `Population` keeps members of one depth and activation in a `Stack`, padded to the widest among
them, and computes a layer of all of them in one batched product. What is padded stays zero, and the loss is a sum over
members, so that each member is trained as it would be alone: `Population.member` is that network in PyTorch's own
layers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.errors import TrainingError, UnknownName
from bionas.registry import Registry
from bionas.studies.eb_lnast.space import ACTIVATIONS, Architecture

OPTIMIZERS: Registry = Registry("optimizer")
OPTIMIZERS.register("adamw")(functools.partial(torch.optim.AdamW, fused=True))
OPTIMIZERS.register("sgd")(functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True))
OPTIMIZERS.register("rmsprop")(torch.optim.RMSprop)
OPTIMIZERS.register("gd")(
    torch.optim.SGD
)  # without momentum: the index term "GD" of the abstract may mean this


@dataclass(frozen=True)
class Training:
    """How the lower level trains by gradients: AdamW, the rate falling to zero on a cosine. Ours: the abstract says
    that weights and biases are optimised, not how.

    Attributes:
        steps: of the optimiser.
        learning_rate, weight_decay: of the optimiser.
        batch_size: rows a step, drawn anew for each pass, the same for every member; None: all rows in each step.
        optimizer: a name of `OPTIMIZERS`.
    """

    steps: int = 150
    learning_rate: float = 0.02
    weight_decay: float = 1e-3
    batch_size: int | None = None
    optimizer: str = "adamw"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UnknownName("optimizer", self.optimizer, OPTIMIZERS)
        if self.steps < 1 or self.learning_rate <= 0 or (self.batch_size is not None and self.batch_size < 1):
            raise TrainingError(
                f"{self}: at least one step, one row per batch and a positive rate are needed."
            )


class Population(nn.Module):
    """P networks between the same inputs and outputs.

    A member starts as `nn.Linear` would, uniform in +-1/sqrt(inputs of the layer), drawn from its own seed: its initialisation
    does not depend on the other members.

    Args:
        architectures: P of them.
        inputs: features of each row; for each member its own number where they differ (at most `max(inputs)`, the
            features past a member's own are zeros).
        outputs: logits.
        seeds: P of them.
        dtype: of the parameters; rows must have it too.
    """

    as_given: Tensor

    def __init__(
        self,
        architectures: Sequence[Architecture],
        inputs: int | Sequence[int],
        outputs: int,
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.architectures = tuple(architectures)
        self.inputs = (inputs,) * len(self.architectures) if isinstance(inputs, int) else tuple(inputs)
        self.outputs = outputs
        if not len(self.architectures) == len(seeds) == len(self.inputs) or not self.architectures:
            raise ValueError("a population needs one seed and one number of inputs a member, and a member")
        alike: dict[tuple[str, int], list[int]] = {}
        for i, architecture in enumerate(self.architectures):
            alike.setdefault((architecture.activation, len(architecture.neurons)), []).append(i)
        self.groups = list(alike.values())
        self.stacks = nn.ModuleList(
            Stack([self.architectures[i] for i in group], max(self.inputs), outputs, dtype)
            for group in self.groups
        )
        in_groups = [i for group in self.groups for i in group]
        self.register_buffer("as_given", torch.argsort(torch.tensor(in_groups)), persistent=False)
        for i, seed in enumerate(seeds):
            self._start(i, seed)

    def _start(self, i: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weight, bias in self._own(i):
            bound = 1 / math.sqrt(weight.shape[0])
            for part in (weight, bias):
                drawn = torch.rand(part.shape, generator=generator, dtype=torch.float64)
                part.copy_((2 * drawn - 1) * bound)

    def _own(self, i: int) -> list[tuple[Tensor, Tensor]]:
        """Views of member i's own weights (inputs, outputs) and biases (outputs,), layer by layer, without padding."""
        stack, group = next((s, g) for s, g in zip(self.stacks, self.groups) if i in g)
        assert isinstance(stack, Stack)
        place, sizes = group.index(i), (self.inputs[i], *self.architectures[i].neurons, self.outputs)
        return [
            (weight.data[place, :before, :after], bias.data[place, 0, :after])
            for weight, bias, before, after in zip(stack.weights, stack.biases, sizes, sizes[1:])
        ]

    def member(self, i: int) -> nn.Sequential:
        """Member i as it stands, in PyTorch's own layers: (B, inputs) -> logits (B, outputs)."""
        layers: list[nn.Module] = []
        for weight, bias in self._own(i):
            linear = nn.Linear(weight.shape[0], weight.shape[1], dtype=weight.dtype, device=weight.device)
            with torch.no_grad():
                linear.weight.copy_(weight.T)
                linear.bias.copy_(bias)
            layers += [linear, ACTIVATIONS[self.architectures[i].activation]()]
        return nn.Sequential(*layers[:-1])

    def load(self, vectors: Tensor) -> None:
        """Give member i the parameters `vectors[i]`: layer by layer, the weights row by row and then the biases."""
        for i, vector in enumerate(vectors):
            position = 0
            for weight, bias in self._own(i):
                for part in (weight, bias):
                    part.copy_(vector[position : position + part.numel()].view(part.shape))
                    position += part.numel()
            if position != len(vector):
                raise ValueError(f"member {i} has {position} parameters, {len(vector)} were given")

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs), the same rows for all, or (P, B, inputs) -> logits (P, B, outputs), members as given."""
        logits = [
            stack(x.expand(len(group), -1, -1) if x.dim() == 2 else x[group])
            for stack, group in zip(self.stacks, self.groups)
        ]
        return torch.cat(logits)[self.as_given]


class Stack(nn.Module):
    """Members of one depth and one activation, layer by layer: (M, B, inputs) -> logits (M, B, outputs).

    Padding is zero and stays so: an activation that leaves 0 at 0 needs no mask, sigmoid does.
    """

    def __init__(self, architectures: Sequence[Architecture], inputs: int, outputs: int, dtype: torch.dtype):
        super().__init__()
        neurons = torch.tensor([a.neurons for a in architectures])
        sizes = [inputs, *neurons.amax(dim=0).tolist(), outputs]
        members = len(architectures)
        shapes = [(members, before, after) for before, after in itertools.pairwise(sizes)]
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes)
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(members, 1, n, dtype=dtype)) for _, _, n in shapes
        )
        self.activation = ACTIVATIONS[architectures[0].activation]()
        self.masked = bool(self.activation(torch.zeros(())))
        for level, width in enumerate(sizes[1:-1]):
            mask = torch.arange(width) < neurons[:, level, None]
            self.register_buffer(f"mask{level}", mask.to(dtype).unsqueeze(1), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        for level in range(len(self.weights) - 1):
            h = self.activation(torch.baddbmm(self.biases[level], h, self.weights[level]))
            if self.masked:
                h = h * getattr(self, f"mask{level}")
        return torch.baddbmm(self.biases[-1], h, self.weights[-1])


def train(
    population: nn.Module,
    x: Tensor,
    y: Tensor,
    training: Training,
    seed: int,
    *,
    of_member: Tensor | None = None,
) -> None:
    """Train every member on its own rows of (x, y) by cross-entropy, all in one computation.

    Args:
        population: called as `population(rows) -> (P, B, C)`.
        x: (N, ...) rows, of a type that can be indexed by a tensor.
        y: (N,) int64 labels.
        training, seed: what is done, and in which order rows come where there are batches.
        of_member: bool (P, N), the rows that member i learns from; all of them where not given. Nothing is computed on
            the others; a batch is the same places among each member's own rows.

    Raises:
        TrainingError: a loss that is not finite.
    """
    optimizer = OPTIMIZERS[training.optimizer](
        population.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    real = None
    if of_member is not None:
        at, real = _own_rows(of_member)
        x, y = x[at], y[at]
    batches = _batches(y.shape[-1], training, seed)
    for step in range(training.steps):
        optimizer.param_groups[0]["lr"] = (
            training.learning_rate * (1 + math.cos(math.pi * step / training.steps)) / 2
        )
        chosen = next(batches)
        if real is None:
            loss = losses(population(x[chosen]), y[chosen]).sum()
        else:
            loss = losses(population(x[:, chosen]), y[:, chosen], real[:, chosen]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not math.isfinite(loss.item()):
        raise TrainingError(
            f"the loss became {loss.item()}: check the features for values that are not finite, or lower the rate."
        )


def losses(logits: Tensor, y: Tensor, real: Tensor | None = None) -> Tensor:
    """(P, B, C), (B,) or (P, B), bool (P, B) -> (P,) mean cross-entropy of each member over its real rows (0 if none)."""
    # classes in the middle: the softmax then runs along rows, a fifth of the time for ten classes
    each = F.cross_entropy(logits.transpose(1, 2), y.expand(logits.shape[:2]), reduction="none")
    if real is None:
        return each.mean(dim=1)
    own = real.to(each.dtype)
    return (each * own).sum(dim=1) / own.sum(dim=1).clamp(min=1)


def _own_rows(of_member: Tensor) -> tuple[Tensor, Tensor]:
    """bool (P, N) -> (P, M) positions of each member's rows, in order, and bool (P, M) which of them are real: M is what
    the member with the most has, the others' places past their own are filled with any row."""
    own = of_member.sum(dim=1)
    at = torch.sort((~of_member).to(torch.uint8), dim=1, stable=True).indices[:, : int(own.max())]
    return at, torch.arange(at.shape[1], device=at.device) < own[:, None]


def _batches(n: int, training: Training, seed: int) -> Iterator[Tensor | slice]:
    """Positions of the rows of each step, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        if training.batch_size is None or training.batch_size >= n:
            yield slice(None)
        else:
            yield from torch.randperm(n, generator=generator).split(training.batch_size)
