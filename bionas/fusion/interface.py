"""The interface of fusions: their inputs, the attributes they declare, and the head after them (H of Eq. 11).

An empty record is no special case for the vectors: X_meta is then the encoding of "missing" in every field, which is
learned like any other value. Fusions that attend over fields mask the missing ones and always keep X_meta as a token, so
that no attention is empty.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from bionas.registry import Registry

FEATURES = 256
"""d, the width of X_img and X_meta (section III-A.2), and of every token."""

FUSIONS: Registry[type[Fusion]] = Registry("fusion")

WITHOUT_METADATA = "concatenation"
"""The fusion that a network of images alone may name: with one vector there is nothing to join."""


class Sizes(NamedTuple):
    """What a fusion is built for.

    Attributes:
        n_classes: of the network, for fusions that predict.
        stages: channels of `ImageFeatures.stages`.
        dropout: probability, inside the fusion.
        features: d.
    """

    n_classes: int
    stages: tuple[int, ...] = ()
    dropout: float = 0.0
    features: int = FEATURES


class Metadata(Protocol):
    """Records of B specimens, as `specimens.metadata.Metadata` holds them.

    Attributes:
        categorical: int64 (B, F), index 0 = unknown or missing.
        numeric: float32 (B, G), standardised, NaN = missing.
    """

    @property
    def categorical(self) -> Tensor: ...

    @property
    def numeric(self) -> Tensor: ...


class ImageFeatures(NamedTuple):
    """Of B images.

    Attributes:
        vector: X_img (B, d), the average over `places`.
        places: (B, d, H, W), the last feature map at d channels.
        stages: for fusions that read stages, the average maps at the ends of the earlier resolutions, (B, C_s) each.
    """

    vector: Tensor
    places: Tensor
    stages: tuple[Tensor, ...] = ()


class MetadataFeatures(NamedTuple):
    """Of B records with F fields, the categorical ones first.

    Attributes:
        vector: X_meta (B, d), Eq. 10.
        hidden: (B, d), the output of the first of the encoder's two layers.
        present: bool (B, F), whether the field has a known value.
        fields: for fusions that read fields, one token each, (B, F, d); undefined where `present` is false.
    """

    vector: Tensor
    hidden: Tensor
    present: Tensor
    fields: Tensor | None = None


class Fusion(nn.Module):
    """Base of all fusions: built from `Sizes`, called as `fusion(image, metadata)`, -> (B, `out_features`).

    Attributes:
        reads_fields, reads_stages: whether it wants `MetadataFeatures.fields` and `ImageFeatures.stages`, which are not
            made for those that do not.
        predicts: its output is already the logits, (B, n_classes), and no head follows.
        out_features: width of its output.
    """

    reads_fields: ClassVar[bool] = False
    reads_stages: ClassVar[bool] = False
    predicts: ClassVar[bool] = False
    out_features: int

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        raise NotImplementedError


def head(inputs: int, n_classes: int, dropout: float) -> nn.Sequential:
    """H of Eq. 11: two layers with dropout, (B, inputs) -> logits (B, n_classes)."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, FEATURES),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(FEATURES, n_classes),
    )
