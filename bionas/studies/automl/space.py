"""The space that Optuna and SMAC3 search: a small CNN and its training, declared once for both.

The paper says "HPO for CNN" and "Bayesian Opt." and no more: the space is ours, and `SPACE` is all of it. A configuration is
a dict, name -> value; `network` and `training` turn it into a network and its recipe.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bionas.studies.backbones import ImageOnly, WithMetadata
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.recipe import FitConfig

Configuration = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, both included; `log`: equal ratios are equally likely."""

    name: str
    low: int
    high: int
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Real:
    """A number from `low` to `high`."""

    name: str
    low: float
    high: float
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few values without order."""

    name: str
    options: tuple[Any, ...]


SPACE: tuple[Whole | Real | Choice, ...] = (
    Whole("stages", 2, 4),
    Whole("blocks", 1, 3),
    Whole("width", 8, 48, log=True),
    Choice("kernel", (3, 5)),
    Choice("convolution", ("plain", "separable")),
    Choice("shortcut", ("no", "yes")),
    Real("dropout", 0.0, 0.5),
    Real("learning_rate", 3e-4, 3e-2, log=True),
    Real("weight_decay", 1e-6, 1e-2, log=True),
    Real("label_smoothing", 0.0, 0.2),
    Choice("batch_size", (32, 64, 128)),
    Choice("schedule", ("one_cycle", "cosine")),
)
"""stages of equal width, each after the first at half the resolution and twice the width of the one before; blocks of
convolution, BN and ReLU in a stage; width of the first stage. Augmentation is the plan's."""


class CNN(nn.Module):
    """The image half of a configuration: (B, 3, S, S) -> (B, features).

    Attributes:
        features: channels of the last stage.
    """

    def __init__(self, stages: int, blocks: int, width: int, kernel: int, convolution: str, shortcut: str):
        super().__init__()
        layers = [_Block(3, width, kernel, 2, "plain", False)]
        inputs = width
        for stage in range(stages):
            outputs = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(_Block(inputs, outputs, kernel, stride, convolution, shortcut == "yes"))
                inputs = outputs
        self.layers, self.features = nn.Sequential(*layers), inputs

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image).mean(dim=(2, 3))


class _Block(nn.Module):
    """Convolution, BN, ReLU; a shortcut around them where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, convolution: str, shortcut: bool):
        super().__init__()
        where: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": stride,
            "padding": kernel // 2,
            "bias": False,
        }
        if convolution == "separable":
            conv = [
                nn.Conv2d(inputs, inputs, groups=inputs, **where),
                nn.Conv2d(inputs, outputs, 1, bias=False),
            ]
        else:
            conv = [nn.Conv2d(inputs, outputs, **where)]
        self.body = nn.Sequential(*conv, nn.BatchNorm2d(outputs))
        self.shortcut = shortcut and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return torch.relu(y + x if self.shortcut else y)


def network(plan: Plan, configuration: Configuration) -> nn.Module:
    """The network of a configuration, freshly initialised from the plan's seed: images, and the plan's metadata if any.

    Raises:
        BaselineError: the plan joins metadata by another fusion than concatenation.
    """
    torch.manual_seed(plan.seed)
    shape = {
        name: configuration[name]
        for name in ("stages", "blocks", "width", "kernel", "convolution", "shortcut")
    }
    cnn, dropout, n_classes = CNN(**shape), configuration["dropout"], len(plan.specimens().class_names)
    if plan.encoding().fields:
        fields = experiments.baseline_inputs(plan, "image+metadata") | {"dropout": dropout}
        return WithMetadata(cnn, cnn.features, n_classes, **fields)
    return ImageOnly(nn.Sequential(cnn, nn.Dropout(dropout), nn.Linear(cnn.features, n_classes)))


def training(plan: Plan, configuration: Configuration, epochs: int) -> FitConfig:
    """The recipe of a configuration; what the space does not contain is the plan's."""
    names = ("learning_rate", "weight_decay", "label_smoothing", "batch_size", "schedule")
    return dataclasses.replace(
        plan.fit_config(), epochs=epochs, **{name: configuration[name] for name in names}
    )
