"""Calibration, refusal, roll-up and prediction sets of a laboratory's model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from bionas.errors import BionasError, SpecimenError, UnknownName
from bionas.lab.calibration import (
    REFUSED,
    UNSURE,
    Calibration,
    answer,
    bank,
    distances,
    fit_temperature,
    rolled_up,
)
from bionas.lab.evaluation import decisions, wilson
from bionas.lab.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    "family", ("Apidae", "Formicidae", "Noctuidae"), {"order": ("Hymenoptera", "Hymenoptera", "Lepidoptera")}
)


def drawn(n: int, seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that agree with them: labels are drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 4, (n, 3))
    shares = softmax(logits / temperature, axis=1)
    labels = (shares.cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return logits, labels


def test_the_temperature_that_drew_the_labels_is_found():
    for true in (0.5, 1.0, 3.0):
        assert fit_temperature(*drawn(20000, 0, true)) == pytest.approx(true, rel=0.08)


def test_decided_answers_keep_to_the_error_rate_on_new_photographs():
    logits, labels = drawn(4000, 1)
    calibration = Calibration.fit(logits, labels, np.zeros(4000), 0)
    new, truth = drawn(20000, 2)
    for rate in (0.01, 0.05, 0.1):
        found = decisions(
            calibration, TAXONOMY, calibration.probabilities(new), truth, np.zeros(20000), rate, 0.0
        )
        low, _ = found["wrong_interval"]
        assert low <= rate * 1.15  # the threshold itself comes from 4,000 photographs
        assert 0 < found["decided"] <= 1
        assert found["coverage"] == pytest.approx(max(1 - rate, found["coverage"]), abs=0.02)


def test_prediction_sets_hold_the_truth_as_often_as_promised():
    logits, labels = drawn(2000, 3)
    calibration = Calibration.fit(logits, labels, np.zeros(2000), 0)
    new, truth = drawn(20000, 4)
    for rate in (0.05, 0.2):
        rule = calibration.rule(TAXONOMY, rate, 0.0)
        sets = answer(calibration.probabilities(new), np.zeros(20000), TAXONOMY, rule).sets
        assert sets[np.arange(20000), truth].mean() >= 1 - rate - 0.02
        assert sets.any(axis=1).all()


def test_the_finest_rank_that_passes_is_answered():
    probabilities = np.array([[0.95, 0.03, 0.02], [0.5, 0.45, 0.05], [0.4, 0.2, 0.4]])
    assert [found[0] for found in rolled_up(probabilities, TAXONOMY, "family", 0.9)] == [1, 0, -1]
    assert [found[0] for found in rolled_up(probabilities, TAXONOMY, "order", 0.9)] == [0, 0, -1]


def test_far_photographs_are_refused_whatever_their_scores():
    logits, labels = drawn(500, 5)
    calibration = Calibration.fit(logits, labels, np.linspace(0, 1, 500), 0)
    rule = calibration.rule(TAXONOMY, 0.2, 0.1)
    assert rule.distance == pytest.approx(0.9, abs=0.01)
    found = answer(np.array([[0.999, 0.0005, 0.0005]] * 2), np.array([0.5, 0.95]), TAXONOMY, rule)
    assert found.decision == ["Apidae", REFUSED]
    assert found.reason[1].startswith("unlike the training photographs")


def test_too_few_validation_photographs_decide_nothing():
    logits, labels = np.eye(3)[[0, 1, 2]] * 9, np.arange(3)
    calibration = Calibration.fit(logits, labels, np.zeros(3), 0)
    rule = calibration.rule(TAXONOMY, 0.05, 0.0)
    assert answer(softmax(logits, axis=1), np.zeros(3), TAXONOMY, rule).decision == [UNSURE] * 3


def test_the_distance_is_the_mean_to_the_ten_nearest():
    generator = np.random.default_rng(0)
    train, new = generator.random((50, 8)), generator.random((5, 8))
    neighbours = bank(train, np.zeros(50, dtype=int), 0)

    def direction(x):
        return np.sqrt(x) / np.linalg.norm(np.sqrt(x))

    expected = [np.mean(sorted(1 - direction(x) @ direction(t) for t in train)[:10]) for x in new]
    assert distances(new, neighbours) == pytest.approx(
        np.array(expected), abs=2e-3
    )  # the bank is in half precision


def test_a_list_of_taxa_is_any_rank_and_its_scores_sum_to_one():
    assert TAXONOMY.allowed(["hymenoptera"]).tolist() == [True, True, False]
    logits, labels = drawn(200, 6)
    calibration = Calibration.fit(logits, labels, np.zeros(200), 0)
    shares = calibration.probabilities(logits, TAXONOMY.allowed(["Hymenoptera"]))
    assert shares[:, 2].max() == 0
    assert shares.sum(axis=1) == pytest.approx(1)
    with pytest.raises(SpecimenError, match="names none of this model's classes"):
        TAXONOMY.allowed(["Vespidae"])


def test_what_cannot_be_asked_is_refused():
    logits, labels = drawn(50, 7)
    calibration = Calibration.fit(logits, labels, np.zeros(50), 0)
    for options in ({"error_rate": 0}, {"error_rate": 1.5}, {"refuse": 1}):
        with pytest.raises(BionasError, match="give a share"):
            calibration.rule(TAXONOMY, **options)
    with pytest.raises(UnknownName, match="rank of this model"):
        calibration.rule(TAXONOMY, finest="species")


def test_wilson_interval():  # Brown, Cai and DasGupta (2001): 0 of 10 reaches 0.278
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
