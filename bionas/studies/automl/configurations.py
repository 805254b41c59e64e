"""Common to Optuna and SMAC3: configurations of `space` that are trained for a few epochs and compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from torch import nn

from bionas.studies.automl import space
from bionas.studies.automl.space import Configuration
from bionas.studies.automl.systems import Found, Problem
from bionas.studies.automl.training import Trained, forget, identity, train, train_the_rest
from bionas.training.loop import predict
from bionas.training.runs import Run

EPOCHS = {"smoke": 1, "quick": 4, "full": 10}
"""Epochs of a configuration that is compared with others, by the plan's mode."""


class Configurations:
    """The configurations tried so far.

    Attributes:
        best: the training with the highest validation accuracy, ties: the first; None before the first.
        rows: one per configuration, in the order in which they were tried: candidates.csv.

    Args:
        problem: what is searched on; trainings lie in its folder, named after their configuration.
    """

    def __init__(self, problem: Problem):
        self.problem, self.epochs = problem, EPOCHS[problem.plan.mode]
        self.best: tuple[Configuration, Trained] | None = None
        self.rows: list[dict] = []

    def score(
        self,
        configuration: Configuration,
        watch: Callable[[int, float], None] = lambda epoch, val_accuracy: None,
    ) -> Trained:
        """Train a configuration, or read its finished training; only the best one keeps its weights."""
        plan, start = self.problem.plan, time.perf_counter()
        trained = train(
            self.problem,
            self._name(configuration),
            lambda: space.network(plan, configuration),
            space.training(plan, configuration, self.epochs),
            {"configuration": configuration},
            watch,
        )
        self.rows.append(
            {
                "index": len(self.rows),
                "val_accuracy": trained.val_accuracy,
                "epochs": trained.epochs,
                "ended": trained.ended,
                "images": self.problem.clock.images,
                "seconds": round(time.perf_counter() - start, 2),
                "configuration": json.dumps(configuration),
            }
        )
        self.problem.write_candidates(self.rows)
        worse: Trained | None = trained
        if trained.epochs and (self.best is None or trained.val_accuracy > self.best[1].val_accuracy):
            worse, self.best = self.best and self.best[1], (configuration, trained)
        if worse is not None and worse.run.path != (self.best and self.best[1].run.path):
            forget(worse)
        return trained

    def knows(self, configuration: Configuration) -> bool:
        """Whether a configuration has been trained, also before an interruption of the search."""
        return Run(self.problem.folder / self._name(configuration)).complete

    def _name(self, configuration: Configuration) -> str:
        return f"trials/{identity(configuration)}"

    def found(self) -> Found:
        """The best configuration, trained with the time that is left.

        Raises:
            AutoMLError: no time for one epoch.
        """
        plan = self.problem.plan
        # where no training was complete, the first configuration is trained as far as time allows
        configuration, earlier = self.best or (json.loads(self.rows[0]["configuration"]), None)

        def build() -> nn.Module:
            return space.network(plan, configuration)

        config = space.training(plan, configuration, self.epochs)
        model, trained = train_the_rest(
            self.problem, build, config, {"configuration": configuration}, earlier
        )
        return Found(
            predict=lambda specimens: predict(model, specimens, plan.encoding(), device=plan.device),
            chosen=configuration,
            candidates=len(self.rows),
            stopped=trained.ended,
            val_accuracy=trained.val_accuracy,
            model=model,
            about={"epochs": trained.epochs, "learning_rate": config.learning_rate},
        )
