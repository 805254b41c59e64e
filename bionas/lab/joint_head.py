"""The head of a model that was trained with metadata: Concat[X_img, X_meta] -> logits (Eqs. 10 and 11).

X_meta is the paper's metadata encoder. X_img is what the photograph alone says, as calibrated log probabilities of the
classes: the few hundred photographs of a laboratory do not suffice to train a second head on a thousand features. The head
is one linear layer over both, which begins as the photograph alone.
"""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor, nn

from bionas.fusion import FEATURES, FUSIONS, ImageFeatures, Sizes
from bionas.lab.calibration import Calibration, fit_temperature
from bionas.lab.head import fit_head
from bionas.lab.metadata import Columns
from bionas.network import MetadataEncoder
from bionas.specimens.metadata import Metadata

EMBEDDING, DROPOUT = 16, 0.2
BATCH, EPOCHS, PATIENCE = 64, 60, 8
"""Training stops once validation has not improved for `PATIENCE` epochs."""

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
HIDDEN = 0.1
"""Share of the values that are hidden in training, so that "missing" is learned where no record lacks anything."""


FOLDS = 3
LEAST = -12.0
"""Smallest log probability of a class that is passed on."""


class JointHead(nn.Module):
    """Evidence of photographs and their metadata -> logits.

    Args:
        n_classes: C.
        vocabulary_sizes, n_numeric: of the encoding of the metadata.
    """

    def __init__(self, n_classes: int, vocabulary_sizes: tuple[int, ...], n_numeric: int):
        super().__init__()
        self.metadata_encoder = MetadataEncoder(vocabulary_sizes, n_numeric, EMBEDDING, DROPOUT)
        self.fusion = FUSIONS["concatenation"](Sizes(n_classes, dropout=DROPOUT))
        self.head = nn.Linear(n_classes + FEATURES, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight[:, :n_classes] = torch.eye(n_classes)  # at first the photograph alone decides

    def forward(self, evidence: Tensor, metadata: Metadata) -> Tensor:
        """evidence (B, C), metadata of the same B -> (B, C)."""
        image = ImageFeatures(evidence, evidence[:, :, None, None])
        return self.head(self.fusion(image, self.metadata_encoder.features(metadata)))


def evidence_of(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits (N, C) of the photographs alone -> float32 (N, C) calibrated log probabilities."""
    return np.maximum(log_softmax(logits / temperature, axis=1), LEAST).astype(np.float32)


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, n_classes: int, seed: int
) -> np.ndarray:
    """float32 (N, C) evidence of training photographs from heads that did not see them.

    The head that was fitted on them is right on nearly all: beside it the metadata would have nothing to explain.
    """
    found = np.zeros((len(labels), n_classes), dtype=np.float32)
    for rest, held_out in _folds(labels, groups, seed):
        head = fit_head(features[rest], labels[rest], features[held_out], labels[held_out], n_classes)
        logits = head.logits(features[held_out])
        found[held_out] = evidence_of(logits, fit_temperature(logits, labels[held_out]))
    return found


def _folds(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    grouped = groups is not None and len(np.unique(groups)) >= FOLDS
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    with (
        warnings.catch_warnings()
    ):  # a class smaller than the number of folds is missing in some, which is no error here
        warnings.simplefilter("ignore", UserWarning)
        folds = kind(FOLDS, shuffle=True, random_state=seed)
        return list(folds.split(labels, labels, groups if grouped else None))


class Joint(NamedTuple):
    """What a model trained with metadata has beside its network: columns, head, and the calibration of both together."""

    columns: Columns
    head: JointHead
    calibration: Calibration

    @torch.inference_mode()
    def logits(self, evidence: np.ndarray, metadata: Metadata) -> np.ndarray:
        """evidence (N, C) and metadata of the same N -> (N, C)."""
        return self.head.eval()(torch.from_numpy(evidence), metadata).numpy()


def fit_joint_head(
    evidence: np.ndarray,
    labels: np.ndarray,
    metadata: Metadata,
    sides: tuple[np.ndarray, np.ndarray],
    columns: Columns,
    seed: int,
) -> JointHead:
    """The head of the epoch with the smallest loss on validation; that of the photographs alone where none is smaller.

    Args:
        evidence, labels, metadata: (N, C), (N,) and of N photographs; of the training ones out of fold.
        sides: positions of the training and of the validation photographs.
        columns: that made `metadata`.
        seed: of the weights, the order and what is hidden.
    """
    x, y = torch.from_numpy(evidence), torch.from_numpy(labels)
    train, val = (torch.from_numpy(side) for side in sides)
    held_out = metadata.take(val)

    @torch.inference_mode()
    def loss_on_validation() -> float:
        return float(F.cross_entropy(joint.eval()(x[val], held_out), y[val]))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoding = columns.encoding
        joint = JointHead(x.shape[1], encoding.vocabulary_sizes, encoding.n_numeric)
        optimizer = torch.optim.AdamW(joint.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, best_loss, since = copy.deepcopy(joint), loss_on_validation(), 0
        for _ in range(EPOCHS):
            joint.train()
            for batch in train[torch.randperm(len(train))].split(BATCH):
                loss = F.cross_entropy(joint(x[batch], _hidden(metadata.take(batch))), y[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            found = loss_on_validation()
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
