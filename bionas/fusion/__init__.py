"""How image and metadata features become one (Eq. 11 and the fusion column of Table I).

A fusion is called as `fusion(ImageFeatures, MetadataFeatures)` and returns the input of the head, (B, `out_features`);
`interface` defines all three. Table I names eight kinds and describes none. `vectors` holds those that join
X_img and X_meta, or earlier features of the two encoders; `tokens` those that attend over the places of the image and the
fields of the record; `ensemble` the one that joins predictions. Adding one: a class, one decorator.
"""

from __future__ import annotations

from bionas.fusion.interface import (
    FEATURES,
    FUSIONS,
    WITHOUT_METADATA,
    Fusion,
    ImageFeatures,
    MetadataFeatures,
    Sizes,
    head,
)

from bionas.fusion import vectors, tokens, ensemble  # isort: skip  # noqa: F401  they fill the registry

__all__ = [
    "FEATURES",
    "FUSIONS",
    "WITHOUT_METADATA",
    "Fusion",
    "ImageFeatures",
    "MetadataFeatures",
    "Sizes",
    "head",
]
