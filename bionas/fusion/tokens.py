"""Fusions by attention, over the places of the image's last feature map and the fields of the record.

Tokens are d wide: one per place, with its position; one per field; and the vectors X_img and X_meta, which are always
present, so that attention over an empty record is defined. Layers are pre-normalised, which trains
without the warm-up that the cited papers' post-normalised ones need. The paper gives no depth. Here each token passes
through two layers in `cross_attention` and `transformer`, and through none but the attention in `multi_head`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.fusion.interface import FUSIONS, Fusion, ImageFeatures, MetadataFeatures, Sizes

HEADS = 8
"""Of every attention: subspaces of 32 at d = 256 (Vaswani et al. 2017 have 8 heads)."""


@FUSIONS.register("cross_attention")
class CrossAttention(Fusion):
    """Two streams: a co-attentional layer, then a self-attention layer in each (Lu et al. 2019, ViLBERT).

    As there, each stream begins with a token for the whole input, here X_img and X_meta, and places carry their positions.
    The final states of these two tokens are concatenated, as in Eq. 11 (ViLBERT multiplies them).
    """

    reads_fields = True

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.out_features = 2 * sizes.features
        self.together = CoAttentionLayer(sizes.features, sizes.dropout)
        self.image, self.metadata = (SelfAttentionLayer(sizes.features, sizes.dropout) for _ in range(2))
        self.image_norm, self.metadata_norm = (nn.LayerNorm(sizes.features) for _ in range(2))

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, 2d)."""
        places = torch.cat([image.vector[:, None], place_tokens(image)], dim=1)
        fields, known = field_tokens(metadata)
        places, fields = self.together(places, fields, known)
        x_img, x_meta = self.image(places)[:, 0], self.metadata(fields, known)[:, 0]
        return torch.cat([self.image_norm(x_img), self.metadata_norm(x_meta)], dim=1)


@FUSIONS.register("transformer")
class TransformerFusion(Fusion):
    """One sequence of [CLS], the record and the places in a joint encoder (Li et al. 2019, VisualBERT).

    Every token attends to every other of both modalities; the final state of [CLS] is the fused feature. A learned vector
    marks the modality of a token. Fields are tokens as in FT-Transformer (Gorishniy et al. 2021).
    """

    reads_fields = True
    LAYERS = 2

    def __init__(self, sizes: Sizes):
        super().__init__()
        d = self.out_features = sizes.features
        self.cls, self.of_image, self.of_metadata = (nn.Parameter(0.02 * torch.randn(d)) for _ in range(3))
        self.layers = nn.ModuleList(SelfAttentionLayer(d, sizes.dropout) for _ in range(self.LAYERS))
        self.norm = nn.LayerNorm(d)

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, d)."""
        places = place_tokens(image) + self.of_image
        fields, known = field_tokens(metadata)
        cls = self.cls.to(places.dtype).expand(len(places), 1, -1)
        sequence = torch.cat([cls, fields + self.of_metadata, places], dim=1)
        here = F.pad(F.pad(known, (1, 0), value=True), (0, places.shape[1]), value=True)
        for layer in self.layers:
            sequence = layer(sequence, here)
        return self.norm(sequence[:, 0])


@FUSIONS.register("multi_head")
class MultiHead(Fusion):
    """Attention with eight heads from each vector to the other modality (Vaswani et al. 2017).

    X_meta is the query over places, X_img the query over fields, each head in its own subspace. The result is added to the
    vector of that modality, as in the guided attention of MCAN (Yu et al. 2019), and both are concatenated (Eq. 11).
    """

    reads_fields = True

    def __init__(self, sizes: Sizes):
        super().__init__()
        d = sizes.features
        self.out_features = 2 * d
        self.of_places, self.of_fields = Attention(d), Attention(d)
        self.image_norm, self.metadata_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.places_norm, self.fields_norm = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, image: ImageFeatures, metadata: MetadataFeatures) -> Tensor:
        """-> (B, 2d)."""
        fields, known = field_tokens(metadata)
        image_query, metadata_query = self.image_norm(image.vector), self.metadata_norm(metadata.vector)
        seen = self.of_places(metadata_query[:, None], self.places_norm(place_tokens(image)))
        read = self.of_fields(image_query[:, None], self.fields_norm(fields), known)
        return torch.cat([image.vector + seen[:, 0], metadata.vector + read[:, 0]], dim=1)


# --- tokens ---------------------------------------------------------------------------------------------------------


def place_tokens(image: ImageFeatures) -> Tensor:
    """One token per place, row by row, its position added: (B, d, H, W) -> (B, H W, d)."""
    d, height, width = image.places.shape[1:]
    tokens = image.places.flatten(2).transpose(1, 2)
    return tokens + positions(height, width, d, tokens.device).to(tokens.dtype)


def field_tokens(metadata: MetadataFeatures) -> tuple[Tensor, Tensor]:
    """X_meta and one token per field (B, 1 + F, d); whether each is present, bool (B, 1 + F): X_meta always."""
    assert metadata.fields is not None  # fusions that call this declare `reads_fields`
    tokens = torch.cat([metadata.vector[:, None], metadata.fields], dim=1)
    return tokens, F.pad(metadata.present, (1, 0), value=True)


def positions(height: int, width: int, d: int, device: torch.device | str = "cpu") -> Tensor:
    """Sines and cosines of row (first half) and column (second half), (height width, d), for maps of any size.

    Vaswani et al. 2017 in two dimensions, as in DETR (Carion et al. 2020); d divisible by 4.
    """
    wave = 10_000 ** (-torch.arange(d // 4, device=device) / (d // 4))
    rows, columns = (torch.arange(n, device=device)[:, None] * wave for n in (height, width))
    rows, columns = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in (rows, columns))
    grid = (rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1))
    return torch.cat(grid, dim=2).reshape(height * width, d)


# --- layers ---------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / heads)) V in `HEADS` subspaces (Vaswani et al. 2017), by PyTorch's fused kernels."""

    def __init__(self, d: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor, source: Tensor, known: Tensor | None = None) -> Tensor:
        """Queries from x (B, N, d), keys from source (B, M, d); tokens with known (B, M) false are masked -> (B, N, d)."""
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, x), (self.key, source), (self.value, source))
        )
        mask = None if known is None else known[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))


class SelfAttentionLayer(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): the encoder layer of Vaswani et al. 2017, pre-normalised."""

    def __init__(self, d: int, dropout: float):
        super().__init__()
        self.norm, self.attention, self.drop = nn.LayerNorm(d), Attention(d), nn.Dropout(dropout)
        self.perceptron = _perceptron(d, dropout)

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """x (B, N, d), known bool (B, N) -> (B, N, d)."""
        normed = self.norm(x)
        x = x + self.drop(self.attention(normed, normed, known))
        return x + self.perceptron(x)


class CoAttentionLayer(nn.Module):
    """Two such layers in which the keys and values of each stream come from the other (ViLBERT, Figure 2b)."""

    def __init__(self, d: int, dropout: float):
        super().__init__()
        self.places_norm, self.fields_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.of_fields, self.of_places, self.drop = Attention(d), Attention(d), nn.Dropout(dropout)
        self.places_perceptron, self.fields_perceptron = _perceptron(d, dropout), _perceptron(d, dropout)

    def forward(self, places: Tensor, fields: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """places (B, N, d), fields (B, M, d), known bool (B, M) -> both, after attending to each other."""
        x, y = self.places_norm(places), self.fields_norm(fields)
        places = places + self.drop(self.of_fields(x, y, known))
        fields = fields + self.drop(self.of_places(y, x))
        return places + self.places_perceptron(places), fields + self.fields_perceptron(fields)


def _perceptron(d: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d), nn.Dropout(dropout)
    )
