"""The common part of all workers: read the task, fit, write fitted.json, wait for test.npz, predict.

Nothing of this package is imported here. A worker calls `serve(fit)`, where `fit(task, train, val)` returns a function from
arrays to probabilities, and the content of fitted.json: chosen, candidates, stopped, val_accuracy, about.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def left(task):
    """Seconds until the time is up; not below 0."""
    return max(0.0, task["until"] - time.time())


def spread(probabilities, classes, n_classes):
    """(N, K) probabilities of the classes that a system has -> (N, n_classes), 0 for the others."""
    full = np.zeros((len(probabilities), n_classes))
    full[:, np.asarray(classes, dtype=int)] = probabilities
    return full / full.sum(axis=1, keepdims=True)


def decided(probabilities, named):
    """(N, K) probabilities that name the classes in `named` (N,): where they do not, all of a row goes to its class.

    Some classifiers decide by one rule and tell probabilities by another: of a linear model with the modified Huber loss
    those are clipped, so that two classes tie at 1/2 and the first in the alphabet would win.
    """
    decided = np.array(probabilities, dtype=np.float64)
    other = decided.argmax(axis=1) != named
    decided[other] = np.eye(decided.shape[1])[named[other]]
    return decided


def serve(fit):
    """Run a worker. A request to stop interrupts `fit` like Ctrl-C; its result so far is used."""
    folder = Path(sys.argv[1])
    stop = getattr(signal, "SIGBREAK", signal.SIGTERM)  # what the parent sends on Windows, and elsewhere
    signal.signal(stop, signal.default_int_handler)
    (folder / "started").touch()
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    predict, said = fit(task, _arrays(folder / "train.npz"), _arrays(folder / "val.npz"))
    _place(folder / "fitted.json", lambda path: path.write_text(json.dumps(said), encoding="utf-8"))
    if not sys.stdin.readline():  # the parent process is gone
        return
    probabilities = np.asarray(predict(_arrays(folder / "test.npz")), dtype=np.float64)
    _place(folder / "probabilities.npz", lambda path: np.savez(path.open("wb"), probabilities=probabilities))


def _arrays(path):
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def _place(path, write):
    part = path.with_name(f".{path.name}.part")
    write(part)
    os.replace(part, path)
