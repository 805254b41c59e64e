"""Trainings inside a search: short ones that are compared, and a final one as long as the remaining time allows.

Every training has its own folder inside the problem's. A finished one is read, an interrupted one resumes, so a search that
is killed and started again loses no more than an epoch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bionas.errors import AutoMLError, TrainingError
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.loader import BatchLoader
from bionas.studies.automl.clock import OutOfTime
from bionas.studies.automl.systems import Problem
from bionas.system import files
from bionas.training.fitting import Fit
from bionas.training.loop import optimizer_of_w
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run

MARGIN = 0.9
"""Share of the remaining time that is planned for: the speed of a machine varies."""
TIMED_BATCHES = 12
"""Steps that are timed in order to know what an epoch takes; the first is not counted."""


class Pruned(Exception):
    """Raised to end a training that the search prunes."""


class Watched(Fit):
    """A `Fit` that calls `watch(epoch, val_accuracy)` after each epoch, which may raise `Pruned`."""

    phase = "trial"

    def __init__(self, *arguments: Any, watch: Callable[[int, float], None]):
        self.watch = watch
        super().__init__(*arguments)

    def save(self) -> None:
        super().save()
        self.watch(self.epoch, self.history[-1]["val_accuracy"])


class Trained(NamedTuple):
    """An ended training, whatever ended it.

    Attributes:
        run: its folder; its weights are those of the last complete epoch.
        epochs: complete ones.
        val_accuracy: after the last of them; 0 where there is none or the loss was not finite.
        ended: "complete", "pruned", "out of time" or why it failed.
    """

    run: Run
    epochs: int
    val_accuracy: float
    ended: str


def identity(configuration: dict[str, Any]) -> str:
    """Eight characters that name a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:8]


def train(
    problem: Problem,
    name: str,
    build: Callable[[], nn.Module],
    config: FitConfig,
    description: dict[str, Any],
    watch: Callable[[int, float], None] = lambda epoch, val_accuracy: None,
) -> Trained:
    """Train what `build` makes in the folder `name` of the problem, resume it, or read its result."""
    run = Run(problem.folder / name)
    if run.complete:
        ending = run.summary
        return Trained(run, ending["epochs"], ending["val_accuracy"], ending["ended"])
    train, val, _ = problem.splits
    trainer = None
    try:
        trainer = Watched(build(), train, val, problem.plan.encoding(), config, run, description, watch=watch)
        trainer.train()
        ended = "complete"
    except Pruned:
        ended = "pruned"
    except OutOfTime:
        ended = "out of time"
    except (TrainingError, torch.OutOfMemoryError) as error:
        ended = f"failed: {str(error).splitlines()[0]}"
    history = trainer.history if trainer is not None else []
    score = 0.0 if ended.startswith("failed") or not history else history[-1]["val_accuracy"]
    found = Trained(run, len(history), score, ended)
    run.finish(
        {"epochs": found.epochs, "val_accuracy": score, "ended": ended}
    )  # time that is up is up for good
    return found


def forget(trained: Trained) -> None:
    """Remove the weights of a training that is not needed any more; its history stays."""
    shutil.rmtree(trained.run.checkpoint_path.parent, ignore_errors=True)


def weights_of(trained: Trained, build: Callable[[], nn.Module]) -> nn.Module:
    """The network of a training, as it was after its last complete epoch."""
    network = build()
    network.load_state_dict(trained.run.weights())
    return network


def train_the_rest(
    problem: Problem,
    build: Callable[[], nn.Module],
    config: FitConfig,
    description: dict[str, Any],
    earlier: Trained | None = None,
) -> tuple[nn.Module, Trained]:
    """Train the choice from scratch, with as many epochs as fit in the remaining time.

    Args:
        earlier: a short training of the same network; it is returned where it is the better of the two on validation, or
            where there was no time for a single epoch.

    Raises:
        AutoMLError: no time for an epoch, and nothing earlier.
    """
    planned = problem.folder / "final_epochs.json"
    if not planned.exists():
        try:
            epochs = max(1, int(MARGIN * problem.clock.left / seconds_an_epoch(problem, build(), config)))
        except OutOfTime:
            epochs = 1
        files.write_json(planned, epochs)
    config = dataclasses.replace(config, epochs=files.read_json(planned))
    final = train(problem, "final", build, config, description)
    answers = [t for t in (final, earlier) if t is not None and t.epochs and not t.ended.startswith("failed")]
    if not answers:
        raise AutoMLError(
            f"{problem.clock.seconds / 60:g} minutes are too few: what was chosen was not trained for one epoch. Give more, or a "
            "smaller preset."
        )
    best = max(answers, key=lambda trained: trained.val_accuracy)
    return weights_of(best, build), best


def seconds_an_epoch(problem: Problem, network: nn.Module, config: FitConfig) -> float:
    """Seconds of an epoch of training and validation on this machine, measured over a few batches of each."""
    train, val, _ = problem.splits
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
    optimizer, size = (
        optimizer_of_w(list(network.parameters()), config),
        64 if isinstance(config.batch_size, str) else config.batch_size,
    )

    def seconds(side: SpecimenSet, learning: bool) -> float:
        loader = BatchLoader(
            side, problem.plan.encoding(), min(size, len(side)), shuffle=learning, drop_last=learning
        )
        network.train(learning)
        laps = [time.perf_counter()]
        for batch in itertools.islice(loader.epoch(0), TIMED_BATCHES):
            with torch.set_grad_enabled(learning):
                batch = batch.to(device)
                loss = F.cross_entropy(network(batch.image, batch.metadata), batch.label)
            if learning:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            loss.item()  # a GPU is waited for
            laps.append(time.perf_counter())
        each = np.diff(laps)
        return len(loader) * float(np.median(each[1:] if len(each) > 1 else each))

    return seconds(train, learning=True) + seconds(val, learning=False)
