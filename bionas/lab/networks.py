"""The network of a laboratory's model: photographs as bytes in, logits out.

`Classifier` is a backbone with one linear head, for photographs of 0 to 255: normalisation is its first layer, so that
an exported copy needs no preprocessing beside the resize. `build` makes the network of a description that `model.json`
holds, with random weights; the weights follow from the model folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from bionas.errors import BionasError
from bionas.fusion import FEATURES
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, NetworkConfig
from bionas.specimens.loader import MEAN, STD
from bionas.training import stems  # noqa: F401  # registers the stems that a description may name

KINDS = ("pretrained", "searched", "resnet18")
"""How a backbone is described: a timm architecture, a genotype with its sizes, or ResNet-18 (the baseline)."""


RESNET_FEATURES = 512


class Normalise(nn.Module):
    """(B, 3, S, S) of any type in 0..255 -> float32, each channel minus `mean` over `std` (both for 0..1)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)).reshape(3, 1, 1), persistent=False)
        shift = -(torch.tensor(mean) / torch.tensor(std)).reshape(3, 1, 1)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.float() * self.scale + self.shift


class DerivedFeatures(nn.Module):
    """A derived network up to the last layer of its head: (B, 3, S, S) -> (B, 256). Images alone, no metadata."""

    def __init__(self, network: DerivedNetwork):
        super().__init__()
        assert isinstance(network.head, nn.Sequential)  # no fusion that predicts: images alone
        network.head = network.head[:-1]  # the linear layer that is left out becomes `Classifier.head`
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Classifier(nn.Module):
    """Normalisation, backbone, linear head.

    Args:
        backbone: (B, 3, S, S) normalised -> (B, D).
        n_features, n_classes: D and the number of classes.
        mean, std: of the channels, for intensities in 0..1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_features: int,
        n_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.backbone = backbone
        self.head = nn.Linear(n_features, n_classes)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) of 0..255 -> (B, D)."""
        return self.backbone(self.normalise(images).contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) of 0..255 -> logits (B, C), not calibrated."""
        return self.head(self.features(images))


def describe_timm(architecture: str, network: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `model.json` keeps of a timm backbone; `settings` are those of `timm.data.resolve_data_config`."""
    return {
        "kind": "pretrained",
        "timm": architecture,
        "image_size": int(settings["input_size"][-1]),
        "mean": [float(x) for x in settings["mean"]],
        "std": [float(x) for x in settings["std"]],
        "features": int(network.head_hidden_size or network.num_features),
    }


def describe_derived(genotype: Genotype, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `model.json` keeps of a derived network: its genotype and the fields of its `NetworkConfig`."""
    return {
        "kind": "searched",
        "genotype": genotype.to_json(),
        "network": dict(config),
        "image_size": config["image_size"],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "features": FEATURES,
    }


def describe_resnet18(image_size: int) -> dict[str, Any]:
    """What `model.json` keeps of ResNet-18 trained from scratch."""
    return {
        "kind": "resnet18",
        "image_size": image_size,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "features": RESNET_FEATURES,
    }


def build(description: Mapping[str, Any], n_classes: int) -> Classifier:
    """The network of a description, with random weights.

    Raises:
        BionasError: the description is of a kind or an architecture that this version cannot build.
    """
    kind = description.get("kind")
    if kind == "pretrained":
        if not timm.is_model(description["timm"]):
            raise BionasError(
                f"the installed timm {timm.__version__} has no architecture {description['timm']!r}, which this model "
                "uses. Install the timm version that model.json names."
            )
        backbone = timm.create_model(description["timm"], num_classes=0)
    elif kind == "searched":
        config = NetworkConfig(**description["network"])
        genotype = Genotype.from_json(description["genotype"])
        backbone = DerivedFeatures(DerivedNetwork(genotype, config, n_classes))
    elif kind == "resnet18":
        backbone = timm.create_model("resnet18", num_classes=0)
    else:
        raise BionasError(f"this version cannot build a model of kind {kind!r}. Known: {', '.join(KINDS)}.")
    return Classifier(backbone, description["features"], n_classes, description["mean"], description["std"])
