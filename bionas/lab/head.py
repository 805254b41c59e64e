"""The head on features at rest: a logistic regression, kept as one linear layer."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from bionas.lab.calibration import log_loss

PENALTIES = (0.003, 0.01, 0.03, 0.1)
"""Inverse strengths of the L2 penalty that are tried; validation decides by its log likelihood."""

ITERATIONS = 300


class Linear(NamedTuple):
    """weight (C, D) and bias (C,) of logits = features @ weight.T + bias."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, C)."""
        return features @ self.weight.T + self.bias


def fit_head(
    features: np.ndarray, labels: np.ndarray, val_features: np.ndarray, val_labels: np.ndarray, n_classes: int
) -> Linear:
    """The logistic regression on standardised features whose penalty does best on validation.

    A class without a training photograph gets a bias that it cannot win with.
    """
    best: Linear | None = None
    best_loss = np.inf
    for penalty in PENALTIES:
        head = _fit(features, labels, n_classes, penalty)
        loss = log_loss(head.logits(val_features), val_labels) if len(val_labels) else 0.0
        if loss < best_loss:
            best, best_loss = head, loss
        else:
            break  # the loss has one minimum along the path
    assert best is not None  # the first loss is finite
    return best


NEVER = -30.0
"""Bias of a class that was not trained."""


def _fit(features: np.ndarray, labels: np.ndarray, n_classes: int, penalty: float) -> Linear:
    mean, sd = features.mean(axis=0), features.std(axis=0) + 1e-6
    present = np.unique(labels)
    weight = np.zeros((n_classes, features.shape[1]), dtype=np.float32)
    bias = np.full(n_classes, NEVER, dtype=np.float32)
    regression = LogisticRegression(C=penalty, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimiser may stop before it has converged
        regression.fit((features - mean) / sd, labels)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(present) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    weight[present] = coefficients / sd
    bias[present] = intercepts - (coefficients / sd) @ mean
    return Linear(weight, bias)
