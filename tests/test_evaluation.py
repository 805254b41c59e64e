"""Section V-A: every metric against a computation by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import calibration_curve

from bionas.errors import BionasError, UnknownName
from bionas.figures import roc_curves
from bionas.system import files
from bionas.training.evaluation import (
    bootstrap_interval,
    calibration_table,
    evaluate,
    majority_row,
    predictions_frame,
    read_evaluation,
    write_evaluation,
)
from bionas.training.runs import Run

NAMES = ("Diptera", "Hymenoptera", "Araneae", "Plecoptera")


@pytest.fixture
def judged():
    """200 specimens of a long-tailed split whose third class is absent; probabilities that know something."""
    generator = np.random.default_rng(4)
    labels = generator.choice(4, size=200, p=[0.7, 0.2, 0.0, 0.1])
    logits = generator.normal(size=(200, 4)) + 1.2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities


def by_hand(labels, predicted, classes):
    rows = []
    for c in classes:
        hit = np.sum((labels == c) & (predicted == c))
        precision = hit / max(np.sum(predicted == c), 1)
        recall = hit / np.sum(labels == c)
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        rows.append((precision, recall, f1, np.sum(labels == c)))
    return np.array(rows)


def test_weighted_and_macro_averages_against_counts(judged):
    labels, probabilities = judged
    predicted = probabilities.argmax(axis=1)
    rows = by_hand(labels, predicted, [0, 1, 3])
    metrics = evaluate(labels, probabilities, NAMES).metrics
    for i, name in enumerate(("precision", "recall", "f1")):
        assert metrics[f"{name}_macro"] == pytest.approx(rows[:, i].mean())
        assert metrics[f"{name}_weighted"] == pytest.approx((rows[:, i] * rows[:, 3]).sum() / len(labels))
    assert metrics["f1_macro"] != pytest.approx(metrics["f1_weighted"], abs=0.01)
    assert metrics["accuracy"] == pytest.approx(np.mean(labels == predicted)) == metrics["recall_weighted"]
    assert metrics["balanced_accuracy"] == pytest.approx(rows[:, 1].mean())
    assert metrics["n"] == 200


def test_auc_is_the_share_of_pairs_in_the_right_order(judged):  # Fig. 5, one class against the rest
    labels, probabilities = judged
    result = evaluate(labels, probabilities, NAMES)
    for c in (0, 1, 3):
        inside, outside = probabilities[labels == c, c], probabilities[labels != c, c]
        pairs = np.mean(inside[:, None] > outside[None, :]) + 0.5 * np.mean(
            inside[:, None] == outside[None, :]
        )
        assert result.by_class["auc"][c] == pytest.approx(pairs)
    assert result.metrics["auc_macro"] == pytest.approx(result.by_class["auc"].dropna().mean())


def test_a_class_absent_from_the_split_has_no_auc_and_no_part_in_macro(judged):
    result = evaluate(*judged, NAMES)
    absent = result.by_class.set_index("class").loc["Araneae"]
    assert absent["n"] == 0 and math.isnan(absent["auc"]) and math.isnan(absent["recall"])
    assert "Araneae" not in set(result.roc["class"])
    assert any("Araneae has no specimen" in note for note in result.notes)
    assert any("predicted nevertheless" in note for note in result.notes)  # and it counts as an error
    assert result.confusion[:, 2].sum() > 0 and result.confusion[2].sum() == 0


def test_confusion_counts_truth_by_row(judged):
    labels, probabilities = judged
    counts = np.zeros((4, 4), dtype=int)
    for truth, predicted in zip(labels, probabilities.argmax(axis=1)):
        counts[truth, predicted] += 1
    assert np.array_equal(evaluate(labels, probabilities, NAMES).confusion, counts)


def test_roc_runs_from_corner_to_corner_and_has_the_area(judged):
    for _, curve in evaluate(*judged, NAMES).roc.groupby("class"):
        assert (curve["fpr"].iloc[0], curve["tpr"].iloc[0]) == (0, 0)
        assert (curve["fpr"].iloc[-1], curve["tpr"].iloc[-1]) == (1, 1)
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(curve["auc"].iloc[0])


def test_calibration_error_by_hand_and_bins_as_scikit_learn(judged):
    labels, probabilities = judged
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    ece = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    result = evaluate(labels, probabilities, NAMES)
    assert result.metrics["ece"] == pytest.approx(ece)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=15)
    filled = result.reliability.dropna()
    assert filled["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert filled["confidence"].to_numpy() == pytest.approx(mean_confidence)
    assert result.reliability["n"].sum() == 200 and len(result.reliability) == 15


def test_calibration_of_one_who_is_sure_and_right():
    table = calibration_table([0, 1], np.eye(2))
    assert table["n"].iloc[-1] == 2 and evaluate([0, 1], np.eye(2), ("a", "b")).metrics["ece"] == 0


def test_majority_class_comes_from_the_training_split():
    row = majority_row([1, 1, 1, 0], [0, 0, 0, 1, 2], 3)
    assert row["accuracy"] == pytest.approx(1 / 5) and row["balanced_accuracy"] == pytest.approx(1 / 3)
    assert row["auc_macro"] == pytest.approx(0.5) and row["ece"] == pytest.approx(0.75 - 0.2)
    metrics = evaluate(
        [0, 0, 0, 1, 2], np.full((5, 3), 1 / 3), ("a", "b", "c"), train_labels=[1, 1, 1, 0]
    ).metrics
    assert metrics["majority_accuracy"] == row["accuracy"]
    assert metrics["majority_balanced_accuracy"] == pytest.approx(row["balanced_accuracy"])


def test_a_split_of_one_class_has_no_auc_and_still_serialises(tmp_path):
    result = evaluate([0, 0], [[0.9, 0.1], [0.4, 0.6]], ("a", "b"))
    assert math.isnan(result.metrics["auc_macro"]) and result.metrics["accuracy"] == 0.5
    write_evaluation(tmp_path, result)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text and json.loads(text)["auc_macro"] is None
    assert math.isnan(read_evaluation(tmp_path).metrics["auc_macro"])


def test_there_and_back(judged, tmp_path):
    labels, probabilities = judged
    result = evaluate(labels, probabilities, NAMES)
    records = pd.DataFrame({"processid": [f"P{i}" for i in range(200)]})
    write_evaluation(tmp_path, result, predictions_frame(records, labels, probabilities, NAMES))
    again = read_evaluation(tmp_path)
    assert again.metrics == pytest.approx(result.metrics) and again.notes == result.notes
    assert again.class_names == NAMES and np.array_equal(again.confusion, result.confusion)
    for name in ("by_class", "roc", "reliability"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name), check_dtype=False)
    assert len(files.read_json(tmp_path / "metrics.json")) == len(result.metrics) + 1


def test_predictions_have_a_row_a_specimen():
    records = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "country": ["Norway", "Peru"]}, index=[7, 9])
    frame = predictions_frame(records, [0, -1], [[0.75, 0.25], [0.1, 0.9]], ("Diptera", "Araneae"))
    assert list(frame.columns) == ["file", "truth", "predicted", "confidence", "p_Diptera", "p_Araneae"]
    assert list(frame["predicted"]) == ["Diptera", "Araneae"] and list(frame["truth"]) == ["Diptera", ""]
    assert list(frame["confidence"]) == [0.75, 0.9]


def test_tensors_are_welcome():
    result = evaluate(torch.tensor([0, 1]), torch.eye(2), ("a", "b"))
    assert result.metrics["accuracy"] == 1.0 and isinstance(result.metrics["accuracy"], float)


def test_bootstrap_holds_the_figure_and_narrows_with_specimens():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=900)
    predicted = np.where(generator.random(900) < 0.8, labels, (labels + 1) % 3)
    low, high = bootstrap_interval(labels, predicted, "accuracy", n=400)
    few_low, few_high = bootstrap_interval(labels[:60], predicted[:60], "accuracy", n=400)
    assert low < np.mean(labels == predicted) < high
    assert high - low == pytest.approx(
        2 * 1.96 * math.sqrt(0.8 * 0.2 / 900), rel=0.25
    )  # as the normal law has it
    assert few_high - few_low > 2 * (high - low)
    assert bootstrap_interval(labels, predicted, "accuracy", n=400) == (low, high)
    assert bootstrap_interval(labels, predicted, lambda t, p: 1.0, n=10) == (1.0, 1.0)
    scarce = (
        np.array([0] * 30 + [1, 2]),
        np.array([0] * 32),
    )  # no class is lost, so the figure lies in its interval
    assert bootstrap_interval(*scarce, "balanced_accuracy", n=50) == pytest.approx((1 / 3, 1 / 3))
    with pytest.raises(UnknownName, match="balanced_accuracy"):
        bootstrap_interval(labels, predicted, "balanced_acuracy")


@pytest.mark.parametrize(
    ("labels", "probabilities", "says"),
    [
        ([], np.zeros((0, 2)), "split is empty"),
        ([0, 1], [[0.5, 0.5]], "do not fit"),
        ([0, 2], np.eye(2), "integers from 0 to 1"),
        ([0, 1], [[np.nan, 1], [0, 1]], "not finite"),
        ([0, 1], [[3.0, -2.0], [0, 1]], "softmax"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(labels, probabilities, says):
    with pytest.raises(BionasError, match=says):
        evaluate(labels, np.asarray(probabilities), ("a", "b"))


def test_class_names_stay_text_when_read_back(tmp_path):
    names = ("01", "10", "3", "NA", "1.50")
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(5), 8)
    probabilities = generator.dirichlet(np.ones(5), len(labels))
    result = evaluate(labels, probabilities, names)
    rows = predictions_frame(pd.DataFrame({"processid": ["007"] * len(labels)}), labels, probabilities, names)
    write_evaluation(tmp_path, result, rows)
    back = read_evaluation(tmp_path)
    assert back.class_names == names and list(back.by_class["class"]) == list(names)
    assert set(back.roc["class"]) == set(names)
    table = Run(tmp_path).table("predictions")
    assert list(table["truth"]) == [names[c] for c in labels] and set(table["processid"]) == {"007"}
    assert set(table["predicted"]) <= set(names)


def test_a_class_that_training_lacks_is_named_with_the_highest_possible_accuracy():
    result = evaluate([0, 0, 1, 2], np.eye(3)[[0, 0, 1, 0]], ("a", "b", "c"), train_labels=[0, 1, 1, 0])
    assert any("c has no specimen in the training split" in note and "75.0%" in note for note in result.notes)
    full = evaluate([0, 0, 1, 2], np.eye(3)[[0, 0, 1, 0]], ("a", "b", "c"), train_labels=[0, 1, 2])
    assert not any("training split and" in note for note in full.notes)


def test_a_split_of_one_class_is_evaluated_and_drawn(tmp_path):
    result = evaluate([1, 1, 1], np.eye(2)[[1, 1, 0]], ("a", "b"))
    write_evaluation(tmp_path, result)
    back = read_evaluation(tmp_path)
    assert back.metrics["accuracy"] == pytest.approx(2 / 3) and back.roc.empty
    assert any("single class" in note for note in back.notes)
    assert "one class" in roc_curves(back.roc).layout.title.text
