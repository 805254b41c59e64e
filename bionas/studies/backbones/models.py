"""Baseline networks, called like ours as `model(image, metadata)`, and their registry.

`ImageOnly` ignores the metadata; `WithMetadata` joins the backbone's features to the same metadata encoder, concatenation
and head as ours (Eqs. 10 and 11), so that the effect of the records can be separated from that of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torchvision
from torch import Tensor, nn

from bionas.errors import BaselineError
from bionas.fusion import FEATURES, FUSIONS, ImageFeatures, Sizes, head
from bionas.network import MetadataEncoder
from bionas.registry import Registry
from bionas.specimens.metadata import Metadata
from bionas.training.weights import Renormalise

BASELINES: Registry[Callable[..., nn.Module]] = Registry("baseline")
"""name -> builder(n_classes, image_size, vocabulary_sizes, n_numeric, ...); see `backbones.Backbone.__call__`."""


class ImageOnly(nn.Module):
    """A backbone called as our networks are, `model(image, metadata)`; the metadata are ignored."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, metadata: Metadata | None = None) -> Tensor:
        """image (B, 3, S, S) -> logits (B, n_classes)."""
        return self.backbone(image)


class WithMetadata(nn.Module):
    """A backbone's features projected to 256-d, then concatenated with the records' as in BioAutoML-NAS (Eqs. 10 and 11).

    The projection is ours, Linear, BN and ReLU: `network.to_features` after the average over the map.

    Args:
        backbone: (B, 3, S, S) -> (B, `features`).
        n_classes, vocabulary_sizes, n_numeric: as in `network.SearchNetwork`; at least one field.
        embedding, dropout: as in `network.NetworkConfig`.

    Raises:
        BaselineError: no field.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        n_classes: int,
        vocabulary_sizes: Sequence[int],
        n_numeric: int,
        embedding: int,
        dropout: float,
    ):
        super().__init__()
        if not (len(vocabulary_sizes) or n_numeric):
            raise BaselineError(
                "there is no metadata for a baseline: these records, or this preset, have no field. Use images alone, or "
                "another metadata preset."
            )
        self.backbone = backbone
        self.to_features = nn.Sequential(
            nn.Linear(features, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU(inplace=True)
        )
        self.metadata_encoder = MetadataEncoder(vocabulary_sizes, n_numeric, embedding, dropout)
        self.fusion = FUSIONS["concatenation"](Sizes(n_classes, dropout=dropout))
        self.head = head(self.fusion.out_features, n_classes, dropout)

    def forward(self, image: Tensor, metadata: Metadata) -> Tensor:
        """image (B, 3, S, S), metadata of the same B -> logits (B, n_classes)."""
        vector = self.to_features(self.backbone(image))
        features = ImageFeatures(vector, vector[:, :, None, None])  # already pooled: a map of 1 x 1
        return self.head(self.fusion(features, self.metadata_encoder.features(metadata)))


class Frozen(nn.Module):
    """A backbone that is not trained: fixed weights, normalisation and dropout as in evaluation.

    Args:
        backbone: a timm network.
        classifier: the parts of it that are trained.
    """

    def __init__(self, backbone: nn.Module, classifier: Sequence[nn.Module] = ()):
        super().__init__()
        self.backbone, self._trained = backbone.requires_grad_(False), tuple(classifier)
        for part in self._trained:
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.backbone.eval()
        for part in self._trained:
            part.train(mode)
        return self

    def forward(self, image: Tensor) -> Tensor:
        return self.backbone(image)


class Renormalised(nn.Sequential):
    """A backbone behind a change of normalisation, from that of our loader to that of its pretrained weights.

    Args:
        mean, std: of each channel, for intensities in 0..1.
    """

    def __init__(self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__(Renormalise(mean, std), backbone)


@BASELINES.register("resnet18")
def resnet18(n_classes: int, image_size: int = 64, **more: object) -> nn.Module:
    """ResNet-18 (He et al. 2016) as torchvision builds it, 7x7 stem and max pool, weights from scratch.

    The first comparison's baseline, on images alone at any size. "ResNet-18" is Table II's, by timm: the same layers, with
    other initial weights, and the options that all of those have.

    Raises:
        BaselineError: any option of the backbones.
    """
    if any(more.values()):
        raise BaselineError(
            "'resnet18' takes images alone, from scratch. 'ResNet-18' takes metadata and weights."
        )
    return ImageOnly(torchvision.models.resnet18(weights=None, num_classes=n_classes))
