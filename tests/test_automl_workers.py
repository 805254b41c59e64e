"""The workers themselves: what they make of a system, here one that is made up and has the same names."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import shutil
import sys
from pathlib import Path

import laboratory
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.svm import LinearSVC

from bionas.studies.automl import SYSTEMS, apart, run
from bionas.studies.automl.environments import Environment
from bionas.studies.automl.study import AutoMLFailure
from bionas.studies.automl.tabular import image_features, metadata_table

SHIPPED = apart.WORKERS

KERAS = '''
"""A network with one weight: the epochs that it was trained for. It is best after three."""
import types
import numpy as np

class Callback:
    pass

class EarlyStopping(Callback):
    def __init__(self, patience, min_delta):
        pass

callbacks = types.SimpleNamespace(Callback=Callback, EarlyStopping=EarlyStopping)
utils = types.SimpleNamespace(set_random_seed=lambda seed: None)

class Model:
    def __init__(self):
        self.trained = 0

    def count_params(self):
        return 1

    def get_weights(self):
        return [np.array(self.trained)]

    def set_weights(self, weights):
        self.trained = int(weights[0])

    def fit(self, x, y, validation_data, batch_size, epochs, callbacks, verbose):
        watch = callbacks[0]
        watch.model = self
        if hasattr(watch, "on_train_begin"):
            watch.on_train_begin()
        for epoch in range(min(epochs, 5)):
            for batch in range(-(-len(y) // batch_size)):
                watch.on_train_batch_end(batch)
            self.trained += 1
            watch.on_test_batch_end(0)
            watch.on_epoch_end(epoch, {"val_accuracy": 0.9 - 0.1 * abs(self.trained - 3)})

    def predict(self, inputs, batch_size, verbose):
        assert len(inputs) == 2 and len(inputs[0]) == len(inputs[1]) and inputs[0].dtype == np.float32
        return np.tile(np.eye(3)[self.trained % 3], (len(inputs[0]), 1))
'''
AUTOKERAS = """
import copy
import types
import keras

def block(**choices):
    return lambda inputs: inputs

def ImageBlock(block_type, normalize, augment):
    assert block_type == "vanilla"  # the others ask for weights
    return block()

def ClassificationHead(num_classes):
    assert num_classes == 3
    return block()

ImageInput = Input = Merge = DenseBlock = block

class AutoModel:
    def __init__(self, inputs, output, **choices):
        assert len(inputs) == 2
        self.tuner = types.SimpleNamespace(oracle=types.SimpleNamespace(ongoing_trials={}))

    def fit(self, x, y, callbacks, **more):
        for layers in (1, 2):
            values = types.SimpleNamespace(values={"layers": layers})
            self.tuner.oracle.ongoing_trials["tuner"] = types.SimpleNamespace(hyperparameters=values)
            keras.Model().fit(x, y, callbacks=copy.deepcopy(callbacks), **more)
"""
AUTOGLUON = '''
import json
import types
from pathlib import Path
import numpy as np
from PIL import Image

class Learner:
    _fit_called = False
    class_labels = [0, 1, 2]

    def get_callbacks_per_run(self, save_path, is_train=True):
        return []

    def run_trainer(self, trainer, is_train=True):
        for epoch in range(trainer.max_epochs):
            for batch in range(-(-self.images // 32)):
                trainer.callbacks[0].on_train_batch_end(trainer, None, None, None, batch)

class MultiModalPredictor:
    total_parameters = 5

    def __init__(self, label, problem_type, **more):
        self._learner = Learner()

    def fit(self, shown, tuning_data, time_limit, seed, column_types, hyperparameters):
        assert {*shown} == {*tuning_data} == {*column_types, "label"} and 0 < time_limit < 300
        checkpoint = Path(hyperparameters["model.timm_image.checkpoint_name"])
        assert (checkpoint / "pytorch_model.bin").read_text() == "as initialised"
        assert json.loads((checkpoint / "config.json").read_text()) == {
            "architecture": "resnet18", "num_features": 512,
            "pretrained_cfg": {"input_size": [3, 16, 16], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        }
        learner = self._learner
        learner.images = len(shown)
        learner._config = types.SimpleNamespace(model=types.SimpleNamespace(names=hyperparameters["model.names"]))
        learner.run_trainer(types.SimpleNamespace(
            max_epochs=hyperparameters["optim.max_epochs"], callbacks=learner.get_callbacks_per_run(save_path="predictor"),
            early_stopping_callback=types.SimpleNamespace(stopped_epoch=0),
        ))
        learner._fit_called = True

    def predict_proba(self, shown, as_pandas):
        """The share of each colour."""
        colours = np.stack([np.asarray(Image.open(file)).mean(axis=(0, 1)) for file in shown["image"]])
        return colours / colours.sum(axis=1, keepdims=True)
'''
TORCH = """
import types
cuda = types.SimpleNamespace(device_count=lambda: 0)

def manual_seed(seed):
    pass

def save(weights, file):
    file.write_text(weights)
"""
TIMM = """
import types

def create_model(name, pretrained, num_classes):
    assert not pretrained and num_classes == 0
    shown = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return types.SimpleNamespace(state_dict=lambda: "as initialised", num_features=512, default_cfg=shown)
"""
BESIDE_AUTOGLUON = {
    "torch": TORCH,
    "timm": TIMM,
    "lightning__pytorch": "class Callback:\n    pass\n",
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return laboratory.own_plan(tmp_path_factory.mktemp("workers"))


@pytest.fixture
def made_up(plan, tmp_path, monkeypatch):
    """Puts modules beside the worker of a system, which this Python runs: it takes them for the packages of its environment.

    package__module="text" is a module of a package.
    """
    monkeypatch.setattr(apart, "WORKERS", tmp_path)
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    monkeypatch.setattr(Environment, "versions", lambda self: {})

    def put(system: str, **modules: str) -> None:
        monkeypatch.setitem(
            SYSTEMS._things, system, dataclasses.replace(SYSTEMS[system], require=lambda: None)
        )
        for name in (f"{system}_worker.py", "exchange.py"):
            shutil.copy(SHIPPED / name, tmp_path)
        for name, text in modules.items():
            package, _, module = name.rpartition("__")
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "__init__.py").touch()
            (tmp_path / package / f"{module}.py").write_text(text)

    yield put
    for folder in plan.folder().glob("automl-*"):
        shutil.rmtree(folder)


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


def answers(finished) -> np.ndarray:
    return finished.table("predictions")[["p_Coleoptera", "p_Diptera", "p_Odonata"]].to_numpy()


# --- AutoKeras -------------------------------------------------------------------------------------------------------


def test_autokeras_answers_with_its_best_epoch(plan, made_up):
    made_up("autokeras", keras=KERAS, autokeras=AUTOKERAS)
    finished = run(plan, "autokeras", 5.0)
    train, _, test = plan.splits()
    assert answers(finished) == pytest.approx(
        np.tile([1.0, 0.0, 0.0], (len(test), 1))
    )  # of the third epoch of six
    # two trials of one epoch in mode smoke, then five more of the first, which no other beat
    summary, candidates = finished.summary, finished.table("candidates")
    assert (
        summary["images_seen"] == 7 * len(train)
        and summary["epochs"] == 6
        and summary["stopped"] == "complete"
    )
    assert summary["chosen"] == {"trial": 0, "layers": 1} and summary["candidates"] == len(candidates) == 2
    assert candidates["epochs"].tolist() == [6, 1] and candidates["images"].tolist() == [
        7 * len(train),
        2 * len(train),
    ]
    assert candidates["val_accuracy"].to_numpy() == pytest.approx([0.9, 0.7])


def test_autokeras_out_of_time_answers_with_what_it_has(plan, made_up):
    out_of_time = KERAS.replace(
        "watch.on_train_batch_end(batch)", "watch.on_train_batch_end(batch) or late()"
    )
    late = "\ndef late():\n    import exchange, sys\n    sys.modules['__main__'].left = lambda task: 0.0\n"
    made_up("autokeras", keras=out_of_time + late, autokeras=AUTOKERAS)
    finished = run(plan, "autokeras", 5.0)
    seen = min(64, len(plan.splits().train))  # two batches: the second finds that the time is up
    assert finished.summary["stopped"] == "out of time" and finished.summary["images_seen"] == seen
    assert finished.table("candidates")["val_accuracy"].isna().all() and finished.summary["epochs"] == 0
    assert (answers(finished).argmax(axis=1) == 0).all()


def test_autokeras_that_breaks_in_its_search_still_leaves_its_best(plan, made_up):
    made_up(
        "autokeras",
        keras=KERAS,
        autokeras=AUTOKERAS + "        raise RuntimeError('three trials in a row have failed')\n",
    )
    finished = run(plan, "autokeras", 5.0)
    assert finished.summary["stopped"] == "broke off: RuntimeError" and finished.summary["epochs"] == 6
    assert "three trials in a row have failed" in (finished.path / "log.txt").read_text()


def test_autokeras_that_breaks_before_it_trained_is_a_failure(plan, made_up):
    made_up(
        "autokeras", keras=KERAS, autokeras=AUTOKERAS.replace("for layers in (1, 2):", "for layers in 1 / 0:")
    )
    with pytest.raises(AutoMLFailure, match="exit code 1 before it had a predictor") as failure:
        run(plan, "autokeras", 5.0)
    assert "ZeroDivisionError" in (failure.value.folder / "log.txt").read_text()


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


def test_autogluon_sees_images_and_metadata(plan, made_up):
    made_up("autogluon", autogluon__multimodal=AUTOGLUON, **BESIDE_AUTOGLUON)
    finished = run(plan, "autogluon", 5.0)
    train, _, test = plan.splits()
    colours = test.images.pixels(np.arange(len(test))).mean(axis=(1, 2))
    assert answers(finished) == pytest.approx(colours / colours.sum(axis=1, keepdims=True), abs=1e-6)
    summary = finished.summary  # two epochs in mode smoke
    assert (
        summary["images_seen"] == 2 * len(train)
        and summary["epochs"] == 2
        and summary["stopped"] == "complete"
    )
    assert summary["chosen"] == {
        "backbone": "resnet18",
        "fused": ["timm_image", "numerical_mlp", "fusion_mlp"],
    }
    assert summary["parameters"] == 5 and summary["candidates"] == len(finished.table("candidates")) == 1


def test_autogluon_interrupted_answers_with_what_it_has(plan, made_up):
    exits = AUTOGLUON.replace(
        "None, batch)\n", "None, batch)\n                raise SystemExit(1)\n"
    )  # as Lightning does
    made_up("autogluon", autogluon__multimodal=exits, **BESIDE_AUTOGLUON)
    finished = run(plan, "autogluon", 5.0)
    assert finished.summary["stopped"] == "out of time" and finished.summary["epochs"] == 0
    assert finished.summary["images_seen"] == 32 < len(plan.splits().train)


def test_autogluon_that_never_trained_is_a_failure(plan, made_up):
    made_up(
        "autogluon",
        autogluon__multimodal=AUTOGLUON.replace("range(trainer.max_epochs)", "range(0)"),
        **BESIDE_AUTOGLUON,
    )
    with pytest.raises(AutoMLFailure, match="before it had a predictor") as failure:
        run(plan, "autogluon", 5.0)
    assert "the time was up before one batch was trained on" in (failure.value.folder / "log.txt").read_text()


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

TPOT = '''
import pandas as pd
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

class TPOTClassifier:
    """Found CLASSIFIER, in a generation of one."""

    def __init__(self, **settings):
        assert settings["n_jobs"] >= 1 and settings["max_time_mins"] > 0

    def fit(self, table, labels):
        self.fitted_pipeline_ = make_pipeline(CLASSIFIER)
        self.evaluated_individuals = pd.DataFrame({"accuracy_score": [0.5, None], "Generation": [0, 0]})
'''


@pytest.mark.parametrize(
    "classifier", [SGDClassifier(loss="modified_huber", random_state=0), LinearSVC(random_state=0)]
)
def test_tpot_answers_with_the_class_that_its_pipeline_names(plan, made_up, classifier):
    made_up("tpot", tpot=TPOT.replace("CLASSIFIER)", f"{classifier})"))  # a classifier's repr makes it
    finished = run(plan, "tpot", 5.0)
    train, _, test = plan.splits()
    sides = [
        np.concatenate([image_features(side), metadata_table(side, plan.encoding())], axis=1)
        for side in (train, test)
    ]
    alone = clone(classifier).fit(sides[0], train.labels)
    assert (answers(finished).argmax(axis=1) == alone.predict(sides[1])).all()
    assert finished.summary["images_seen"] == 2 * len(train) and finished.summary["candidates"] == 2


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
