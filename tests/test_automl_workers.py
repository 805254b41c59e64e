"""The workers' own code: counting images, keeping the best epoch, preparing tables, probabilities.

Their packages live in separate environments; `test_automl_apart` tests the exchange of files with a worker.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import SGDClassifier

from bionas.studies.automl import apart

SHIPPED = apart.WORKERS


@pytest.fixture
def worker(monkeypatch):
    """The module of a system's worker."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # it is set where the worker is imported
    monkeypatch.syspath_prepend(SHIPPED)

    def load(system: str):
        spec = importlib.util.spec_from_file_location(f"{system}_worker", SHIPPED / f"{system}_worker.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("exchange", None)


# --- AutoKeras -------------------------------------------------------------------------------------------------------


class Network:
    def __init__(self, weight: float):
        self.weight = np.array(weight)

    def count_params(self) -> int:
        return 1

    def get_weights(self) -> list[np.ndarray]:
        return [self.weight]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weight = weights[0]


def test_autokeras_counts_images_by_batches(worker):
    module = worker("autokeras")
    record = module.Record({"until": float("inf"), "seconds": 100.0}, images=70)
    with pytest.raises(SystemExit, match="before one batch"):
        record.best()
    record.begin(Network(0), {})
    for batch, seen in enumerate((32, 64, 70)):  # the last batch is short
        record.batch(batch)
        assert record.seen == record.trials[0]["images"] == seen


def test_autokeras_keeps_the_best_epoch_of_all_trials(worker):
    module = worker("autokeras")
    record = module.Record({"until": float("inf"), "seconds": 100.0}, images=32)
    networks = [Network(0.0), Network(10.0)]
    scores = itertools.chain.from_iterable([[0.2, 0.8, 0.5], [0.3, 0.7]])
    for network, epochs in zip(networks, (3, 2), strict=True):
        record.begin(network, {"width": int(network.weight)})
        for _ in range(epochs):
            record.batch(0)
            network.weight += 1  # in place, as a training does
            record.epoch(network, next(scores))
    assert record.best() is networks[0] and networks[0].weight == 2
    assert [trial["val_accuracy"] for trial in record.trials] == [0.8, 0.7]
    assert json.loads(record.chosen["configuration"]) == {"width": 0}


def test_autokeras_stops_where_what_is_left_is_reserved(worker, monkeypatch):
    module = worker("autokeras")
    record = module.Record({"until": 0.0, "seconds": 100.0}, images=32)
    record.reserved = 0.5
    monkeypatch.setattr(module, "left", lambda task: 50.1)
    record.look()
    monkeypatch.setattr(module, "left", lambda task: 50.0)
    with pytest.raises(module.TimeUp):
        record.look()
    assert not issubclass(module.TimeUp, Exception)  # a tuner takes those for a failed trial


# --- AutoGluon -------------------------------------------------------------------------------------------------------


def test_autogluon_is_given_files_and_numbers(worker, tmp_path, monkeypatch):
    module = worker("autogluon")
    monkeypatch.chdir(tmp_path)
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    metadata = np.array([[0.0, 1.0, 7.5], [1.0, 0.0, 0.0]], np.float32)
    arrays = {"images": images, "metadata": metadata, "labels": np.array([2, 0])}
    shown = module.table(arrays, "train")
    assert (np.stack([np.asarray(Image.open(file)) for file in shown["image"]]) == images).all()
    assert (shown[["metadata_0", "metadata_1", "metadata_2"]].to_numpy() == arrays["metadata"]).all()
    assert shown["label"].tolist() == [2, 0]
    kinds = module.types(shown)
    assert kinds.pop("image") == "image_path" and set(kinds.values()) == {"numerical"} and len(kinds) == 3
    del arrays["labels"]
    assert "label" not in module.table(arrays, "test")


def test_autogluon_is_shown_no_label_that_training_has_not(worker):
    module = worker("autogluon")
    arrays = {"images": np.arange(4), "labels": np.array([0, 3, 1, 3])}
    kept = module.answerable(arrays, labels=np.array([0, 0, 1, 2]))
    assert kept["images"].tolist() == [0, 2] and kept["labels"].tolist() == [0, 1]


# --- TPOT ------------------------------------------------------------------------------------------------------------


def test_clipped_probabilities_do_not_decide(worker):
    decided = worker("tpot").decided
    rows, labels = np.random.default_rng(0).normal(size=(300, 4)), np.repeat([0, 1, 2], 100)
    rows[np.arange(300), labels] += 2
    linear = SGDClassifier(loss="modified_huber", random_state=0).fit(rows, labels)
    told, named = linear.predict_proba(rows), linear.predict(rows)
    assert (told.argmax(axis=1) != named).any()  # two clipped to a tie: the first would win
    mended = decided(told, named)
    same = told.argmax(axis=1) == named
    assert (mended.argmax(axis=1) == named).all() and (mended[same] == told[same]).all()
    assert (mended[~same].max(axis=1) == 1).all() and np.allclose(mended.sum(axis=1), 1)
