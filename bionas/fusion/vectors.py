"""Fusions of one vector per modality (concatenation, bilinear pooling, gating) and of one per depth (progressive)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bionas.fusion.interface import FUSIONS, Fusion, ImageFeatures, MetadataFeatures, Sizes


@FUSIONS.register("concatenation")
class Concatenation(Fusion):
    """Concat[X_img, X_meta] (Eq. 11)."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.out_features = 2 * sizes.features

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, 2d)."""
        return torch.cat([image.vector, metadata.vector], dim=1)


@FUSIONS.register("bilinear_pooling")
class BilinearPooling(Fusion):
    """Every product of a feature of one side with one of the other, at low rank (Kim et al. 2017, MLB).

    f = P^T (tanh(U^T X_img) . tanh(V^T X_meta)) + b, rank 2d: the full bilinear form would have d^3 weights. Compact
    bilinear pooling (Gao et al. 2016) approximates the same products by hashing; the learned projection of MLB needs no
    Fourier transform, which half precision and operation counters support poorly.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        d = self.out_features = sizes.features
        self.image, self.metadata = nn.Linear(d, 2 * d), nn.Linear(d, 2 * d)
        self.drop = nn.Dropout(sizes.dropout)
        self.pool = nn.Linear(2 * d, d)

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, d)."""
        product = torch.tanh(self.image(image.vector)) * torch.tanh(self.metadata(metadata.vector))
        return self.pool(self.drop(product))


@FUSIONS.register("gating")
class Gating(Fusion):
    """The gated multimodal unit (Arevalo et al. 2017): each feature has a learned weight for either modality.

    h = z . tanh(W_i X_img) + (1 - z) . tanh(W_m X_meta), z = sigmoid(W_z [X_img, X_meta]).
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        d = self.out_features = sizes.features
        self.image, self.metadata = nn.Linear(d, d), nn.Linear(d, d)
        self.gate = nn.Linear(2 * d, d)

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, d)."""
        z = torch.sigmoid(self.gate(torch.cat([image.vector, metadata.vector], dim=1)))
        return z * torch.tanh(self.image(image.vector)) + (1 - z) * torch.tanh(self.metadata(metadata.vector))


@FUSIONS.register("progressive")
class Progressive(Fusion):
    """Fusion at every depth, from the first resolution to the last (Perez-Rua et al. 2019, MFAS).

    h_l = relu(W_l [x_l, y_l, h_(l-1)]): x_l is the average map at the end of the l-th resolution, at last X_img; y_l is
    the hidden layer of the metadata encoder, at last X_meta. MFAS searches which depths meet; here all do, in order.
    """

    reads_stages = True

    def __init__(self, sizes: Sizes):
        super().__init__()
        d = self.out_features = sizes.features
        widths = (*sizes.stages, d)
        self.steps = nn.ModuleList(nn.Linear(c + d + (d if step else 0), d) for step, c in enumerate(widths))

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, d)."""
        joint: tuple[Tensor, ...] = ()
        images = (*image.stages, image.vector)
        records = (metadata.hidden,) * len(image.stages) + (metadata.vector,)
        for step, x, y in zip(self.steps, images, records, strict=True):
            joint = (torch.relu(step(torch.cat([x, y, *joint], dim=1))),)
        return joint[0]
