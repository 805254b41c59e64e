"""Networks to compare with, one registry: name -> builder(n_classes) of a model that takes images alone."""

from __future__ import annotations

from collections.abc import Callable

import torchvision
from torch import Tensor, nn

from bionas.registry import Registry
from bionas.specimens.metadata import Metadata

BASELINES: Registry[Callable[[int], nn.Module]] = Registry("baseline")


class ImageOnly(nn.Module):
    """A backbone called as our networks are: `model(image, metadata)`, the metadata left unread."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, metadata: Metadata | None = None) -> Tensor:
        """image (B, 3, S, S) -> logits (B, n_classes)."""
        return self.backbone(image)


@BASELINES.register("resnet18")
def resnet18(n_classes: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) as torchvision builds it, 7x7 stem and max pool, weights from scratch."""
    return ImageOnly(torchvision.models.resnet18(weights=None, num_classes=n_classes))
