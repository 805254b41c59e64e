"""Late fusion: the mean of the predictions from the image, from the metadata, and from both."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bionas.fusion.interface import FUSIONS, Fusion, ImageFeatures, MetadataFeatures, Sizes, head


@FUSIONS.register("ensemble")
class Ensemble(Fusion):
    """The mean of the class probabilities of three heads: image, metadata, both (the sum rule of Kittler et al. 1998).

    Each head is H of Eq. 11. Where a record is empty, the head of the metadata is left out of the mean. The output is
    the logarithm of the mean, which losses and softmax read as logits.
    """

    predicts = True

    def __init__(self, sizes: Sizes):
        super().__init__()
        d, self.out_features = sizes.features, sizes.n_classes
        self.image = head(d, sizes.n_classes, sizes.dropout)
        self.metadata = head(d, sizes.n_classes, sizes.dropout)
        self.joint = head(2 * d, sizes.n_classes, sizes.dropout)

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> logits (B, n_classes), their softmax the mean of probabilities."""
        members = [
            _log_probabilities(self.image(image.vector)),
            _log_probabilities(self.metadata(metadata.vector)),
            _log_probabilities(self.joint(torch.cat([image.vector, metadata.vector], dim=1))),
        ]
        known = metadata.present.any(dim=1, keepdim=True)
        members[1] = members[1].masked_fill(~known, -math.inf)
        return torch.stack(members).logsumexp(dim=0) - torch.log(2 + known.to(members[0].dtype))


def _log_probabilities(logits: Tensor) -> Tensor:
    """log_softmax in float32 or more: under mixed precision the logits have 16 bits."""
    return torch.log_softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
