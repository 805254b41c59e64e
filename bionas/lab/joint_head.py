"""The head of a model that was trained with metadata: Concat[X_img, X_meta] -> logits (Eqs. 10 and 11).

The image encoder is the network that the photographs alone have trained; its features are given. The metadata encoder, the
fusion and the head are those of the paper.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.fusion import FEATURES, FUSIONS, ImageFeatures, Sizes, head
from bionas.lab.calibration import Calibration
from bionas.lab.metadata import Columns
from bionas.network import MetadataEncoder
from bionas.specimens.metadata import Metadata

EMBEDDING, DROPOUT = 16, 0.2
BATCH, EPOCHS, PATIENCE = 64, 60, 8
"""Training stops once validation has not improved for `PATIENCE` epochs."""

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
HIDDEN = 0.1
"""Share of the values that are hidden in training, so that "missing" is learned where no record lacks anything."""


class JointHead(nn.Module):
    """Features of photographs and their metadata -> logits.

    Args:
        n_features: D, of the photographs.
        n_classes: C.
        vocabulary_sizes, n_numeric: of the encoding of the metadata.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_classes: int, vocabulary_sizes: tuple[int, ...], n_numeric: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.image = nn.Linear(n_features, FEATURES)
        self.metadata_encoder = MetadataEncoder(vocabulary_sizes, n_numeric, EMBEDDING, DROPOUT)
        self.fusion = FUSIONS["concatenation"](Sizes(n_classes, dropout=DROPOUT))
        self.head = head(self.fusion.out_features, n_classes, DROPOUT)

    def forward(self, features: Tensor, metadata: Metadata) -> Tensor:
        """features (B, D), metadata of the same B -> (B, C)."""
        image = torch.relu(self.image((features - self.mean) * self.scale))
        return self.head(
            self.fusion(
                ImageFeatures(image, image[:, :, None, None]), self.metadata_encoder.features(metadata)
            )
        )


class Joint(NamedTuple):
    """What a model trained with metadata has beside its network: columns, head, and the calibration of both together."""

    columns: Columns
    head: JointHead
    calibration: Calibration

    @torch.inference_mode()
    def logits(self, features: np.ndarray, metadata: Metadata) -> np.ndarray:
        """features (N, D) and metadata of the same N -> (N, C)."""
        return self.head.eval()(torch.from_numpy(np.ascontiguousarray(features)), metadata).numpy()


def fit_joint_head(
    features: np.ndarray,
    labels: np.ndarray,
    metadata: Metadata,
    sides: tuple[np.ndarray, np.ndarray],
    columns: Columns,
    n_classes: int,
    seed: int,
) -> JointHead:
    """The head of the epoch with the smallest loss on validation.

    Args:
        features, labels, metadata: (N, D), (N,) and of N photographs.
        sides: positions of the training and of the validation photographs.
        columns: that made `metadata`.
        n_classes: C.
        seed: of the weights, the order and what is hidden.
    """
    train, val = sides
    x, y = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoding = columns.encoding
        joint = JointHead(x.shape[1], n_classes, encoding.vocabulary_sizes, encoding.n_numeric)
        joint.mean.copy_(x[train].mean(dim=0))
        joint.scale.copy_(1 / (x[train].std(dim=0, unbiased=False) + 1e-6))
        optimizer = torch.optim.AdamW(joint.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, best_loss, since = copy.deepcopy(joint), float("inf"), 0
        for _ in range(EPOCHS):
            joint.train()
            for batch in torch.from_numpy(train)[torch.randperm(len(train))].split(BATCH):
                loss = F.cross_entropy(joint(x[batch], _hidden(metadata.take(batch))), y[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            joint.eval()
            with torch.inference_mode():
                found = float(F.cross_entropy(joint(x[val], metadata.take(torch.from_numpy(val))), y[val]))
            if found < best_loss:
                best, best_loss, since = copy.deepcopy(joint), found, 0
            else:
                since += 1
            if since >= PATIENCE:
                break
    return best.requires_grad_(False).eval()


def _hidden(metadata: Metadata) -> Metadata:
    """The batch with a share of its values missing."""
    gone = torch.rand(metadata.categorical.shape) < HIDDEN
    lost = torch.rand(metadata.numeric.shape) < HIDDEN
    return Metadata(
        metadata.categorical.masked_fill(gone, 0), metadata.numeric.masked_fill(lost, float("nan"))
    )
