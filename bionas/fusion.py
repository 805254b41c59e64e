"""How image and metadata features become one (Eq. 11 and the fusion column of Table I).

A fusion maps two vectors of the same width, X_img (B, d) and X_meta (B, d), to (B, `out_features`), which the head
reads. Networks without metadata have no fusion: their head reads X_img. Adding one: a class here, one decorator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bionas.registry import Registry

FUSIONS: Registry[type[nn.Module]] = Registry("fusion")


@FUSIONS.register("concatenation")
class Concatenation(nn.Module):
    """Concat[X_img, X_meta] (Eq. 11)."""

    def __init__(self, features: int):
        super().__init__()
        self.out_features = 2 * features

    def forward(self, image: Tensor, metadata: Tensor) -> Tensor:
        """image (B, d), metadata (B, d) -> (B, 2d)."""
        return torch.cat([image, metadata], dim=1)
