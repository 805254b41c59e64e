"""AutoKeras 3 (Jin et al. 2023) on the torch backend: a search over one fixed kind of image block, with metadata merged.

The kind is fixed ("vanilla", its plain convolutions) because the other kinds ask for pretrained weights in a later trial.
Half of the time is for trials of a few epochs; the rest continues the best of them. The best epoch so far is kept in
memory, so that both can be broken off anywhere.
"""

import json
import os
import traceback

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
from exchange import left, serve

EPOCHS = {"smoke": 1, "quick": 4, "full": 10}
"""Of a trial, by mode: as many as Optuna's and SMAC3's."""
SEARCH_SHARE = 0.5
RESERVED = 0.03
"""Of the time, for the answers."""
BATCH = 32
PATIENCE = 10
"""Epochs without a gain after which a training ends: AutoKeras's default."""


class TimeUp(BaseException):
    """Not an Exception: a tuner treats those as a failed trial and continues."""


class Record:
    """What has been trained, and the best of it.

    Args:
        task: as in task.json.
        images: in the training split.

    Attributes:
        trials: one row per trial, in order.
        seen: training images drawn.
        reserved: this share of the time is not for what is being trained.
        model: the best so far, with its trial in `chosen`; before any epoch is complete, the one that is being trained.
        weights: of the best epoch, None before there is one.
    """

    def __init__(self, task, images):
        self.task, self.images = task, images
        self.trials, self.seen, self.reserved = [], 0, RESERVED
        self.model = self.chosen = self.current = self.weights = None
        self.score = -1.0

    def begin(self, model, configuration):
        """A trial begins."""
        self.current = {
            "index": len(self.trials),
            "val_accuracy": None,
            "epochs": 0,
            "images": self.seen,
            "parameters": int(model.count_params()),
            "configuration": json.dumps(configuration),
        }
        self.trials.append(self.current)
        if self.weights is None:
            self.model, self.chosen = model, self.current

    def go_on(self):
        """The best trial is trained on, from its best epoch."""
        self.current = self.chosen
        self.model.set_weights(self.weights)

    def batch(self, number):
        """Batch `number` of an epoch, counted from 0, has been trained on."""
        self.seen += min(BATCH, self.images - BATCH * number)
        self.current["images"] = self.seen
        self.look()

    def look(self):
        """Raises TimeUp where no more is left than is reserved."""
        if left(self.task) <= self.reserved * self.task["seconds"]:
            raise TimeUp

    def epoch(self, model, val_accuracy):
        """An epoch is complete."""
        self.current["epochs"] += 1
        self.current["val_accuracy"] = max(val_accuracy, self.current["val_accuracy"] or 0.0)
        if val_accuracy > self.score:
            self.score, self.model, self.chosen = val_accuracy, model, self.current
            self.weights = [np.array(weight) for weight in model.get_weights()]

    def best(self):
        """The model with the weights of its best epoch.

        Raises:
            SystemExit: nothing was trained at all.
        """
        if not self.seen:
            raise SystemExit("the time was up before one batch was trained on")
        if self.weights is not None:
            self.model.set_weights(self.weights)
        return self.model


def fit(task, train, val):
    import autokeras as ak
    import keras

    keras.utils.set_random_seed(task["seed"])
    record = Record(task, len(train["labels"]))
    inputs, output = graph(ak, task["n_classes"], with_metadata=train["metadata"].shape[1] > 0)
    system = ak.AutoModel(
        inputs,
        output,
        project_name="search",
        directory=".",
        max_trials=1000,
        objective="val_accuracy",
        tuner="greedy",
        overwrite=True,
        seed=task["seed"],
    )

    class Watch(keras.callbacks.Callback):
        """Reports to the record. A tuner copies its callbacks, so the record is kept outside of them."""

        def on_train_batch_end(self, batch, logs=None):
            record.batch(batch)

        def on_test_batch_end(self, batch, logs=None):
            record.look()

        def on_epoch_end(self, epoch, logs=None):
            record.epoch(self.model, float(logs["val_accuracy"]))

    class WatchTrial(Watch):
        def on_train_begin(self, logs=None):
            (trial,) = system.tuner.oracle.ongoing_trials.values()
            record.begin(self.model, trial.hyperparameters.values)

    data = {
        "x": seen(train),
        "y": one_hot(train, task),
        "validation_data": (seen(val), one_hot(val, task)),
        "batch_size": BATCH,
        "verbose": 2,
    }

    def search():
        record.reserved = 1 - SEARCH_SHARE
        system.fit(**data, epochs=EPOCHS[task["mode"]], callbacks=[WatchTrial()])

    def train_on():
        record.reserved = RESERVED
        record.look()
        record.go_on()
        early = keras.callbacks.EarlyStopping(patience=PATIENCE, min_delta=1e-4)
        record.model.fit(**data, epochs=10**6, callbacks=[Watch(), early])

    stopped = broken_off(search, record)
    if record.weights is not None:
        later = broken_off(train_on, record)
        stopped = stopped if stopped.startswith("broke") else later
    model = record.best()
    said = {
        "chosen": {"trial": record.chosen["index"], **json.loads(record.chosen["configuration"])},
        "candidates": record.trials,
        "stopped": stopped,
        "val_accuracy": float(np.mean(answered(model, val).argmax(axis=1) == val["labels"])),
        "about": {
            "images_seen": record.seen,
            "parameters": record.chosen["parameters"],
            "epochs": record.chosen["epochs"],
        },
    }
    return lambda test: answered(model, test), said


def graph(ak, n_classes, with_metadata):
    """AutoKeras's inputs and output."""
    image = ak.ImageInput()
    features = ak.ImageBlock(block_type="vanilla", normalize=True, augment=False)(image)
    if not with_metadata:
        return [image], ak.ClassificationHead(num_classes=n_classes)(features)
    metadata = ak.Input()
    merged = ak.Merge()([features, ak.DenseBlock()(metadata)])
    return [image, metadata], ak.ClassificationHead(num_classes=n_classes)(merged)


def broken_off(train, record):
    """Why `train` ended, in words: what broke is an error only where there is nothing that could answer."""
    try:
        train()
    except (TimeUp, KeyboardInterrupt):
        return "out of time"
    except Exception as error:
        if not record.seen:
            raise
        traceback.print_exc()
        return f"broke off: {type(error).__name__}"
    return "complete"


def seen(arrays):
    """What the network is given: images (N, S, S, 3) from 0 to 255, and the metadata where there is any."""
    images = arrays["images"].astype(np.float32)
    return [images, arrays["metadata"]] if arrays["metadata"].shape[1] else [images]


def one_hot(arrays, task):
    return np.eye(task["n_classes"], dtype=np.float32)[arrays["labels"]]


def answered(model, arrays):
    return np.asarray(model.predict(seen(arrays), batch_size=128, verbose=0), dtype=np.float64)


if __name__ == "__main__":
    serve(fit)
