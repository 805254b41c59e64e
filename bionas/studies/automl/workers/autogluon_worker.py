"""AutoGluon multimodal 1.6 (Tang et al. 2024): an image backbone and an MLP of the metadata, fused, within a time limit.

It accepts pretrained backbones only. It is given a checkpoint with initial weights, so that it starts from
scratch as all others do. Its rates are those of tuning such a backbone, and are set. The rest is its own: augmentation,
schedule, the average of its best three checkpoints.
"""

import json
from pathlib import Path

import numpy as np
from exchange import left, serve, spread

BACKBONE = "resnet18"
SHARE = 0.85
"""Of the time, for training; the rest averages checkpoints and answers."""
EPOCHS = {"smoke": 2, "quick": 20, "full": 100}
"""At the most, by mode: as many as a network of ours; 20 are AutoGluon's own."""
BATCH = 32
RATES = {"optim.lr": 1e-3, "optim.lr_choice": "single_stage"}
"""From scratch, all layers have the same rate."""


class Record:
    """What has been trained on.

    Args:
        images: in the training split.

    Attributes:
        seen: training images drawn.
        stopped: why training ended, in words.
    """

    def __init__(self, images):
        self.images, self.seen, self.stopped = images, 0, "complete"

    @property
    def epochs(self):
        """Complete ones."""
        return self.seen // self.images

    def batch(self, number):
        """Batch `number` of an epoch, counted from 0, has been trained on."""
        self.seen += min(BATCH, self.images - BATCH * number)


def fit(task, train, val):
    import torch
    from autogluon.multimodal import MultiModalPredictor

    record = Record(len(train["labels"]))
    predictor = MultiModalPredictor(
        label="label",
        problem_type="multiclass",
        eval_metric="accuracy",
        path="predictor",
        enable_progress_bar=False,
    )
    learner = predictor._learner
    watch(learner, record)
    shown = table(train, "train")
    try:
        predictor.fit(
            shown,
            tuning_data=table(answerable(val, train["labels"]), "val"),
            time_limit=SHARE * left(task),
            seed=task["seed"],
            column_types=types(shown),
            hyperparameters={
                "model.names": [
                    "timm_image",
                    *(["numerical_mlp", "fusion_mlp"] if train["metadata"].shape[1] else []),
                ],
                "model.timm_image.checkpoint_name": str(untrained(task["seed"], train["images"].shape[1])),
                "model.timm_image.image_size": train["images"].shape[1],
                **RATES,
                "optim.max_epochs": EPOCHS[task["mode"]],
                "optim.val_check_interval": 1.0,
                "env.per_gpu_batch_size": BATCH,
                "env.num_workers": 0,
                "env.num_workers_inference": 0,
                "env.num_gpus": min(1, torch.cuda.device_count()),
            },
        )
    except KeyboardInterrupt:  # while it averages checkpoints: what it has by then is the answer
        if not learner._fit_called:
            raise
    if not record.seen:
        raise SystemExit("the time was up before one batch was trained on")

    def predict(side, name):
        answered = predictor.predict_proba(table(side, name), as_pandas=False)
        return spread(answered, learner.class_labels, task["n_classes"])

    right = float(np.mean(predict(val, "val").argmax(axis=1) == val["labels"]))
    about = {
        "images_seen": record.seen,
        "parameters": int(predictor.total_parameters),
        "epochs": record.epochs,
    }
    chosen = {"backbone": BACKBONE, "fused": list(learner._config.model.names)}
    said = {
        "chosen": chosen,
        "candidates": [{"index": 0, "val_accuracy": right, "backbone": BACKBONE, **about}],
        "stopped": record.stopped,
        "val_accuracy": right,
        "about": {**about, "learning_rate": RATES["optim.lr"]},
    }
    return lambda test: predict(test, "test"), said


def watch(learner, record):
    """Count what a learner trains on, and let it end as usual where it is interrupted: Lightning would leave the process."""
    from lightning.pytorch import Callback

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            record.batch(batch_idx)

    callbacks, train = learner.get_callbacks_per_run, learner.run_trainer

    def watched_callbacks(*arguments, is_train=True, **more):
        return [*callbacks(*arguments, is_train=is_train, **more), *([Watch()] if is_train else [])]

    def watched_training(trainer, *arguments, is_train=True, **more):
        if not is_train:
            return train(trainer, *arguments, is_train=is_train, **more)
        try:
            train(trainer, *arguments, is_train=is_train, **more)
        except (KeyboardInterrupt, SystemExit):
            record.stopped = "out of time"
        else:
            gained_nothing = trainer.early_stopping_callback.stopped_epoch > 0
            record.stopped = (
                "complete" if gained_nothing or record.epochs == trainer.max_epochs else "out of time"
            )

    learner.get_callbacks_per_run, learner.run_trainer = watched_callbacks, watched_training


def untrained(seed, image_size):
    """A folder with the weights of a backbone as it is initialised, in the form of a checkpoint of timm."""
    import timm
    import torch

    torch.manual_seed(seed)
    backbone = timm.create_model(BACKBONE, pretrained=False, num_classes=0)
    folder = Path("backbone").resolve()
    folder.mkdir()
    torch.save(backbone.state_dict(), folder / "pytorch_model.bin")
    shown = {
        "input_size": [3, image_size, image_size],
        **{name: list(backbone.default_cfg[name]) for name in ("mean", "std")},
    }
    config = {"architecture": BACKBONE, "num_features": backbone.num_features, "pretrained_cfg": shown}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def table(arrays, side):
    """One row per specimen: the file of its image, made in the folder `side`, its metadata, and its label where that is known."""
    import pandas as pd
    from PIL import Image

    folder = Path(side).resolve()
    folder.mkdir(exist_ok=True)
    for i, pixels in enumerate(arrays["images"]):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    columns = {"image": [str(folder / f"{i}.png") for i in range(len(arrays["images"]))]}
    columns |= {f"metadata_{i}": values for i, values in enumerate(arrays["metadata"].T)}
    return pd.DataFrame(columns | ({"label": arrays["labels"]} if "labels" in arrays else {}))


def types(shown):
    """What each column of a table is; left to itself, AutoGluon takes a column of zeros and ones for categories."""
    return {
        name: "image_path" if name == "image" else "numerical" for name in shown.columns if name != "label"
    }


def answerable(arrays, labels):
    """Those of `arrays` whose label is among `labels`: AutoGluon does not accept others."""
    kept = np.isin(arrays["labels"], labels)
    return {name: values[kept] for name, values in arrays.items()}


if __name__ == "__main__":
    serve(fit)
