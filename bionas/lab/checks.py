"""Checks of a collection before it is learned: leaking groups, colour as a shortcut, suspected wrong labels.

All of them use cheap features: those of the pretrained network at rest, or colours and thumbnails where there is none.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    BaseCrossValidator,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bionas.lab.groups import Evidence, thumbnails
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.images import Images

FOLDS = 3
COMPONENTS = 64
"""Principal components of the features that the checks learn from: enough to show an effect, and quick."""

LARGEST = 6000
"""Photographs that the checks look at, at most; drawn at random."""

SHORTCUT = 0.3
"""Share of the way from the majority class to 100 % that colour alone may go before it is called a shortcut. Measured:
0.13 on field photographs of pests, 0.63 on mounted bee wings whose lighting differs by species."""

INFLATED = 0.03
"""Difference between a random and a grouped division that is worth a warning."""


class Inflation(NamedTuple):
    """Cross-validated accuracy of the same cheap classifier under a random and under a grouped division."""

    random: float
    grouped: float


class Shortcut(NamedTuple):
    """Cross-validated accuracy from mean and spread of the colour channels alone, beside the majority class."""

    accuracy: float
    majority: float

    @property
    def reached(self) -> float:
        """Share of the way from the majority class to 100 %."""
        return (self.accuracy - self.majority) / max(1 - self.majority, 1e-9)


def plain_features(images: Images) -> np.ndarray:
    """(N, 198) features that need no network: an 8 x 8 thumbnail in colour, mean and spread of each channel."""
    small = thumbnails(images, 8, colour=True)
    return np.concatenate([small.reshape(len(small), -1), colour_features(images)], axis=1)


def colour_features(images: Images) -> np.ndarray:
    """(N, 6) mean and spread of each channel over a 16 x 16 thumbnail."""
    small = thumbnails(images, 16, colour=True).reshape(len(images), -1, 3)
    return np.concatenate([small.mean(axis=1), small.std(axis=1)], axis=1)


def inflation(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Inflation | None:
    """How much a random division flatters a linear classifier; None where a class has too few photographs or groups."""
    n_folds = min(FOLDS, len(np.unique(groups)))  # two recording blocks are two folds
    kept = _enough(labels, groups, seed, n_folds) if n_folds > 1 else None
    if kept is None:
        return None
    features, labels, groups = features[kept], labels[kept], groups[kept]
    if len(np.unique(groups)) < n_folds:
        return None
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    grouped = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    random = (_out_of_fold(features, labels, folds, seed).argmax(1) == _codes(labels)).mean()
    apart = (_out_of_fold(features, labels, grouped, seed, groups).argmax(1) == _codes(labels)).mean()
    return Inflation(float(random), float(apart))


def inflation_warning(evidence: Evidence, measured: Inflation | None) -> str:
    """The sentences that ask for a group."""
    line = f"the same specimens seem to be photographed repeatedly: {evidence.words}."
    if measured is not None:
        line += (
            f" A random division makes a simple classifier look {100 * (measured.random - measured.grouped):.1f} points "
            f"better than one that keeps them apart ({100 * measured.random:.1f} % against "
            f"{100 * measured.grouped:.1f} %)."
        )
    return (
        f"{line} The accuracy is of photographs, not of new specimens: train again with "
        f"--group {evidence.group}."
    )


def shortcut(images: Images, labels: np.ndarray, seed: int = 0) -> Shortcut | None:
    """What colour and brightness alone predict; None where a class has too few photographs."""
    kept = _enough(labels, None, seed)
    if kept is None:
        return None
    colours, own = colour_features(images.subset(kept)), labels[kept]
    forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=seed)
    found = cross_val_predict(
        forest, colours, own, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    )
    return Shortcut(float((found == own).mean()), float(np.bincount(own).max() / len(own)))


def shortcut_warning(found: Shortcut) -> str:
    """The sentence on colour, "" where it is no shortcut."""
    if found.reached < SHORTCUT:
        return ""
    return (
        f"mean colour and brightness alone name {100 * found.accuracy:.1f} % of the photographs (the commonest class is "
        f"{100 * found.majority:.1f} %): the classes may have been photographed under different light or background, "
        "and a network can learn that in place of the animals. Test it on photographs taken elsewhere."
    )


def suspected_labels(
    specimens: SpecimenSet, features: np.ndarray, groups: np.ndarray | None, seed: int = 0
) -> pd.DataFrame:
    """Labels that out-of-fold predictions contradict (cleanlab), the most doubtful first.

    Returns one row per suspected photograph: file, label, suggested, quality (0..1, low is doubtful).
    """
    columns = ["file", "label", "suggested", "quality"]
    kept = _enough(specimens.labels, groups, seed)
    if kept is None:
        return pd.DataFrame(columns=columns)
    labels = specimens.labels[kept]
    grouped = groups is not None and len(np.unique(groups[kept])) >= FOLDS
    folds = (StratifiedGroupKFold if grouped else StratifiedKFold)(FOLDS, shuffle=True, random_state=seed)
    found = _out_of_fold(
        features[kept], labels, folds, seed, groups[kept] if groups is not None and grouped else None
    )
    present, codes = np.unique(labels, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        positions = find_label_issues(codes, found, return_indices_ranked_by="self_confidence", n_jobs=1)
    quality = get_label_quality_scores(codes, found)
    names = np.array(specimens.class_names, dtype=object)
    rows = pd.DataFrame(
        {
            "file": specimens.records["file"].to_numpy(dtype=object)[kept][positions],
            "label": names[labels[positions]],
            "suggested": names[present[found[positions].argmax(axis=1)]],
            "quality": quality[positions].round(4),
        },
        columns=columns,
    )
    return rows[rows["label"] != rows["suggested"]].reset_index(drop=True)


def _enough(
    labels: np.ndarray, groups: np.ndarray | None, seed: int, n_folds: int = FOLDS
) -> np.ndarray | None:
    """Positions (at most `LARGEST`) of classes with `n_folds` photographs, and groups where given; None below two classes."""
    sizes = np.bincount(labels)
    if groups is not None:
        pairs = np.unique(np.stack([labels, groups]), axis=1)
        sizes = np.bincount(pairs[0], minlength=len(sizes))
    kept = np.flatnonzero((sizes >= n_folds)[labels])
    if len(kept) > LARGEST:
        kept = np.sort(np.random.default_rng(seed).permutation(kept)[:LARGEST])
        kept = kept[(np.bincount(labels[kept], minlength=len(sizes)) >= n_folds)[labels[kept]]]
    return kept if len(np.unique(labels[kept])) > 1 else None


def _codes(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]


def _out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    folds: BaseCrossValidator,
    seed: int,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """(N, C) probabilities of a logistic regression on principal components that did not see the photograph."""
    codes = _codes(labels)
    n_classes = codes.max() + 1
    found = np.full((len(labels), n_classes), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fold without a rare class, an optimiser that stopped early
        for train, test in folds.split(features, codes, groups):
            components = min(COMPONENTS, features.shape[1], len(train) - 1)
            pipe = make_pipeline(
                StandardScaler(),
                PCA(components, svd_solver="randomized", random_state=seed),
                StandardScaler(),
                LogisticRegression(C=0.1, max_iter=200),
            )
            pipe.fit(features[train], codes[train])
            found[np.ix_(test, pipe.classes_)] = pipe.predict_proba(features[test])
    return found / found.sum(axis=1, keepdims=True)
