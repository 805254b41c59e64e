"""What a training may do about rare classes: weights, re-sampling, adjusted logits.

The paper does none of these: "robust and balanced learning without re-sampling or class weighting", by label smoothing and
dropout. `FitConfig.balance` turns one of them on, so that the sentence can be tested (`studies.imbalance`).

    class_weights      loss of a specimen of class c times N / (C n_c)           (inverse frequency)
    resampling         every class equally often in an epoch, drawn with replacement (`loader.BatchLoader`)
    logit_adjustment   cross-entropy of logits + log(n_c / N)                     (Menon et al. 2021, Eq. 10, tau = 1)

n_c: training specimens of class c. They change the training loss alone: a trained network predicts from its plain logits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def criterion(
    balance: str | None, counts: np.ndarray, label_smoothing: float, device: torch.device | str = "cpu"
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The training loss (logits (B, C), labels (B,)) -> mean, of a name of `recipe.BALANCES`.

    Args:
        balance: None for none of them.
        counts: (C,) training specimens of each class; a class without any counts as one.
        label_smoothing: as of cross-entropy.

    Returns:
        None where the loss is plain cross-entropy: without balance, and with re-sampling, which changes the order alone.
    """
    if balance not in ("class_weights", "logit_adjustment"):
        return None
    n = torch.as_tensor(np.maximum(counts, 1), dtype=torch.float32, device=device)
    if balance == "class_weights":
        return nn.CrossEntropyLoss(weight=n.sum() / (len(n) * n), label_smoothing=label_smoothing)
    plain, prior = nn.CrossEntropyLoss(label_smoothing=label_smoothing), (n / n.sum()).log()
    return lambda logits, labels: plain(logits + prior, labels)
