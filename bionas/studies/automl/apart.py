"""A system in a separate environment, which exchanges files with ours in `exchange/` of its run.

    task.json            seed, time, classes           fitted.json         its description, once it has a predictor
    train.npz, val.npz   arrays and labels             probabilities.npz   its predictions
    test.npz             arrays alone, written after fitted.json

A worker (`workers/`) is a script that the environment's Python runs. It is asked to stop when its time is up, and killed
if it does not. It starts from the beginning when its run is started again: such a system cannot resume.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from bionas.errors import AutoMLError
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.metadata import MetadataEncoding
from bionas.studies.automl.environments import Environment
from bionas.studies.automl.systems import Found, Problem, System
from bionas.studies.automl.tabular import image_features, metadata_table
from bionas.system import files

WORKERS = Path(__file__).parent / "workers"
GRACE = 120.0
"""Seconds after its time in which a worker may finish; then it is asked to stop."""
PATIENCE = 60.0
"""Seconds after that, until it is killed."""
STARTED = "started"
"""The file that a worker writes once it can be asked to stop."""

ARRAYS: dict[str, Callable[[SpecimenSet, MetadataEncoding], np.ndarray]] = {
    "images": lambda specimens, encoding: specimens.require_images().pixels(np.arange(len(specimens))),
    "features": lambda specimens, encoding: image_features(specimens),
    "metadata": metadata_table,
}
"""What a worker can be given of specimens: images (N, S, S, 3) uint8, features and metadata float32 (`tabular`)."""

STOP = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)  # Windows has the first and no use for the second
"""How a worker is asked to stop."""


def apart(name: str, paper: str, note: str, arrays: Sequence[str]) -> System:
    """A system whose worker is `workers/<name>_worker.py` and whose environment is `envs/<name>.txt`.

    Args:
        paper, note: as in `System`.
        arrays: names of `ARRAYS`: the worker's inputs.
    """
    environment = Environment(name)
    return System(
        name,
        paper,
        lambda problem: _search(problem, environment, arrays),
        note,
        environment.require,
        environment=environment,
    )


def _search(problem: Problem, environment: Environment, arrays: Sequence[str]) -> Found:
    exchange = problem.folder / "exchange"
    shutil.rmtree(exchange, ignore_errors=True)
    exchange.mkdir(parents=True)
    problem.clock.restart()
    plan, (train, val, _) = problem.plan, problem.splits
    for side, specimens in (("train", train), ("val", val)):
        _hand_over(exchange / f"{side}.npz", specimens, plan.encoding(), arrays, labels=True)
    files.write_json(
        exchange / "task.json",
        {
            "seed": plan.seed,
            "seconds": problem.clock.left,
            "until": time.time() + problem.clock.left,
            "n_classes": problem.n_classes,
            "mode": plan.mode,
            "threads": torch.get_num_threads(),
        },
    )
    worker = Worker(environment, exchange, problem.folder / "log.txt")
    said = worker.fitted(problem.clock.left)
    problem.write_candidates(said["candidates"])

    def predict(specimens: SpecimenSet) -> np.ndarray:
        _hand_over(exchange / "test.npz", specimens, plan.encoding(), arrays, labels=False)
        probabilities = worker.probabilities()
        shutil.rmtree(exchange)
        return probabilities

    return Found(
        predict,
        said["chosen"],
        len(said["candidates"]),
        said["stopped"],
        said["val_accuracy"],
        about=said["about"],
    )


def _hand_over(
    path: Path, specimens: SpecimenSet, encoding: MetadataEncoding, arrays: Sequence[str], labels: bool
) -> None:
    held: dict[str, Any] = {name: ARRAYS[name](specimens, encoding) for name in arrays}
    with files.replacing(path) as file:
        np.savez(file, **held | ({"labels": specimens.labels} if labels else {}))


class Worker:
    """The process of a system.

    Args:
        environment: whose Python runs it.
        exchange: its folder.
        log: its output is appended to this file.
    """

    def __init__(self, environment: Environment, exchange: Path, log: Path):
        self.name, self.exchange = environment.name, exchange
        threads = str(torch.get_num_threads())
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(environment.python), str(WORKERS / f"{self.name}_worker.py"), str(exchange)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=exchange,
                start_new_session=True,  # POSIX: a process group, which `end` kills whole
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows: can be sent STOP
                env={**own, **offline, "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"},
            )

    def fitted(self, seconds: float) -> dict:
        """Wait until it has a predictor, at most `seconds` and some grace; then ask it to stop, then kill it.

        Raises:
            AutoMLError: it ended without one.
        """
        until, asked = time.time() + seconds + GRACE, False
        try:
            while not (self.exchange / "fitted.json").exists():
                if self.process.poll() is not None:
                    raise AutoMLError(
                        f"its process ended with exit code {self.process.returncode} before it had a predictor."
                    )
                if time.time() > until + PATIENCE:
                    raise AutoMLError(
                        f"it did not stop {GRACE + PATIENCE:g} seconds after its time was up, and was killed."
                    )
                if time.time() > until and not asked and (self.exchange / STARTED).exists():
                    self.process.send_signal(STOP)
                    asked = True
                time.sleep(0.2)
        except BaseException:
            self.end()
            raise
        return json.loads((self.exchange / "fitted.json").read_text(encoding="utf-8"))

    def probabilities(self) -> np.ndarray:
        """Its predictions for test.npz, (N, n_classes).

        Raises:
            AutoMLError: it ended without one.
        """
        try:
            self.process.communicate(b"predict\n")
            answer = self.exchange / "probabilities.npz"
            if not answer.exists():
                raise AutoMLError(
                    f"its process ended with exit code {self.process.returncode} before it had predicted."
                )
            with np.load(answer, allow_pickle=False) as held:
                return held["probabilities"]
        finally:
            self.end()

    def end(self) -> None:
        """Kill it and the processes that it started."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                tree = psutil.Process(self.process.pid)
                for process in (*tree.children(recursive=True), tree):
                    process.kill()
        self.process.wait()
