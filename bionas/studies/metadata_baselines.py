"""Metadata alone and no network: what a table of records says about the order by counting, and by gradient boosting.

The measure for any model that is given metadata (Eq. 10): what it reaches beyond these rows is what the image, or the
network, has added. `back_off` counts, `boosted` is scikit-learn's histogram gradient boosting, and `compare` sets both
beside the majority class, over all test specimens and over those of BINs that training has and has not shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import OrdinalEncoder

from bionas.errors import SpecimenError
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import METADATA_PRESETS, numbers_of, preset_fields
from bionas.specimens.schema import NUMERIC, coded

RANKS = ("dna_bin", "species", "genus", "subfamily", "family")
"""From the finest to the coarsest: the order in which `back_off` asks."""

CATEGORIES = 254
"""Values of a field that boosting tells apart; the rarer ones share one place."""

ITERATIONS = 20
"""Rounds of boosting, of one tree a class each, at a rate of `LEARNING_RATE`."""

LEARNING_RATE = 0.3

L2 = 1.0
"""Of the leaves: without it a class of a few specimens lets them diverge."""


def majority(train: SpecimenSet, test: SpecimenSet) -> np.ndarray:
    """The commonest class of the training specimens, for every test specimen: labels (n,)."""
    return np.full(len(test), np.bincount(train.labels, minlength=len(train.class_names)).argmax())


def back_off(train: SpecimenSet, test: SpecimenSet, fields: Sequence[str] = RANKS) -> np.ndarray:
    """The commonest class among the training specimens of the same BIN; where the BIN is missing or was never seen, of
    the same value in the next field; after the last field the majority class. Labels (n,).

    Args:
        fields: asked in this order; those that the records lack are passed over. Of equally frequent classes the larger
            in training is answered.
    """
    answer = majority(train, test)
    sizes = np.bincount(train.labels, minlength=len(train.class_names))
    open_ = np.ones(len(test), dtype=bool)
    for name in fields:
        if name not in train.records or name not in test.records:
            continue
        of_value = _commonest(train.records[name], train.labels, sizes)
        codes, texts = coded(test.records[name])
        told = np.array([*(of_value.get(text, -1) for text in texts), -1])[codes]
        now = open_ & (told >= 0)
        answer[now] = told[now]
        open_ &= ~now
    return answer


def boosted(train: SpecimenSet, test: SpecimenSet, fields: Iterable[str], seed: int = 0) -> np.ndarray:
    """Labels (n,) by histogram gradient boosting on the fields: scikit-learn's defaults, and the three constants above.

    A categorical field keeps its `CATEGORIES` commonest values; a value that training never showed is missing.

    Raises:
        SpecimenError: none of the fields is in the records.
    """
    fields = [name for name in fields if name in train.records and name in test.records]
    if not fields:
        raise SpecimenError("gradient boosting needs at least one field that the records have.")
    known, asked = (np.empty((len(side), len(fields))) for side in (train, test))
    for column, name in enumerate(fields):
        if name in NUMERIC:
            known[:, column], asked[:, column] = (
                numbers_of(train.records[name]),
                numbers_of(test.records[name]),
            )
            continue
        encoder = OrdinalEncoder(
            max_categories=CATEGORIES,
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            encoded_missing_value=np.nan,
        ).fit(_texts(train.records[name]))
        known[:, column] = encoder.transform(_texts(train.records[name]))[:, 0]
        asked[:, column] = encoder.transform(_texts(test.records[name]))[:, 0]
    model = HistGradientBoostingClassifier(
        max_iter=ITERATIONS,
        learning_rate=LEARNING_RATE,
        l2_regularization=L2,
        early_stopping=False,
        random_state=seed,
        categorical_features=[name not in NUMERIC for name in fields],
    )
    return model.fit(known, train.labels).predict(asked)


def removals(specimens: SpecimenSet) -> list[tuple[str, ...]]:
    """The ranks and the BIN, as far as the records have them and the target is none of them: all, then with the finest
    taken away one at a time, then with the coarsest."""
    present = preset_fields("no_target", specimens.records, specimens.target)
    ranks = tuple(name for name in RANKS if name in present)
    return [ranks[i:] for i in range(len(ranks))] + [ranks[:-i] for i in range(1, len(ranks))]


def compare(splits: Splits, seed: int = 0) -> pd.DataFrame:
    """All of them on the test specimens: the majority class; `back_off` on all its fields, with the finest taken
    away one at a time, and with the coarsest taken away one at a time; boosting on each preset that has fields.

    Returns one row per model: model; fields; accuracy, balanced_accuracy over all test specimens; accuracy_seen and
    accuracy_unseen: over those whose BIN training has and has not shown (a missing BIN is in neither); n, n_seen, n_unseen.
    NaN where a group is empty.
    """
    train, test = splits.train, splits.test
    seen, unseen = known_bins(train, test)
    models = [("majority class", "-", majority(train, test))]
    models += [("counting", ", ".join(given), back_off(train, test, given)) for given in removals(train)]
    for preset in METADATA_PRESETS:
        if fields := preset_fields(preset, train.records, train.target):
            models.append((f"boosting, {preset}", ", ".join(fields), boosted(train, test, fields, seed)))
    rows = []
    for name, used, answer in models:
        right = answer == test.labels
        groups = {"accuracy_seen": right[seen], "accuracy_unseen": right[unseen]}
        # Only classes that the test split has: an answer outside them is a mistake, not a class of its own.
        present = np.unique(test.labels)
        recall = [right[test.labels == label].mean() for label in present]
        rows.append(
            {
                "model": name,
                "fields": used,
                "accuracy": right.mean(),
                "balanced_accuracy": float(np.mean(recall)),
                **{column: part.mean() if len(part) else math.nan for column, part in groups.items()},
                "n": len(test),
                "n_seen": int(seen.sum()),
                "n_unseen": int(unseen.sum()),
            }
        )
    return pd.DataFrame(rows)


def _commonest(column: pd.Series, labels: np.ndarray, sizes: np.ndarray) -> dict[str, int]:
    """Value -> its most frequent label."""
    codes, texts = coded(column)
    given = codes >= 0
    votes = (
        pd.DataFrame({"code": codes[given], "label": labels[given]}).value_counts().rename("n").reset_index()
    )
    votes["size"] = sizes[votes["label"]]
    best = votes.sort_values(["n", "size", "label"], ascending=[False, False, True]).drop_duplicates("code")
    return {texts[code]: label for code, label in zip(best["code"], best["label"], strict=True)}


def known_bins(train: SpecimenSet, test: SpecimenSet) -> tuple[np.ndarray, np.ndarray]:
    """bool (n,) each: test specimens with a BIN that training has, and with one that it has not; a specimen without a BIN
    is in neither."""
    if "dna_bin" not in train.records or "dna_bin" not in test.records:
        return np.zeros(len(test), dtype=bool), np.zeros(len(test), dtype=bool)
    shown = set(coded(train.records["dna_bin"]).texts)
    codes, texts = coded(test.records["dna_bin"])
    seen = np.array([*(text in shown for text in texts), False])[codes]
    return seen, (codes >= 0) & ~seen


def _texts(column: pd.Series) -> np.ndarray:
    """object (N, 1): the values as text, None where not known."""
    codes, texts = coded(column)
    return np.array([*texts, None], dtype=object)[codes][:, None]
