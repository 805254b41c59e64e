"""Baseline networks (Tables II and III) in one registry, `BASELINES`: the paper's name -> a builder.

    BASELINES["Swin Transformer-L"](21, image_size=64)      images alone, 21 classes, weights from scratch
    BASELINES["MAE"](21, 224, vocabulary_sizes, n_numeric)  with our metadata encoder, concatenated

`models` defines the networks, `catalogue` names the twenty, `coatnet` assembles the one that timm does not have.
"""

from bionas.studies.backbones.catalogue import Backbone, catalogue, find, paper_backbones, slug
from bionas.studies.backbones.models import BASELINES, ImageOnly, WithMetadata

__all__ = [
    "BASELINES",
    "Backbone",
    "ImageOnly",
    "WithMetadata",
    "catalogue",
    "find",
    "paper_backbones",
    "slug",
]
