"""The MLP that EB-LNAST must not fall far behind: tuned by a strong search over everything, size included.

"MLPs optimized with extensive hyperparameter tuning, including architecture, activation functions, regularization, and
optimizers" (abstract). Here Optuna's tree-structured Parzen estimator chooses; which values, and how many trials, is ours.
A trial is scored by EB-LNAST's own lower level, its inner folds in one batched computation, so that what differs between
the two is what each searches for and never how a network is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bionas.errors import BionasError, TrainingError
from bionas.studies.eb_lnast.lower import STARTS, GradientLevel
from bionas.studies.eb_lnast.population import OPTIMIZERS, Training
from bionas.studies.eb_lnast.space import ACTIVATIONS, Architecture

LAYERS, NEURONS = (1, 3), (4, 256)
"""Least and most hidden layers; least and most neurons of each (drawn by their logarithm)."""

RATES, DECAYS = (1e-4, 1e-1), (1e-6, 1.0)
"""Learning rate and weight decay, least and most, drawn by their logarithm."""

BATCHES: tuple[int | None, ...] = (16, 32, 64, None)
"""Rows a step; None: all of them."""

STEPS = (150, 300, 600)
"""Of the optimiser. EB-LNAST's candidates have 150."""


@dataclass(frozen=True)
class Tuned:
    """The best trial, trained on all rows: architecture, how it was trained, network, its parameters, all in words."""

    architecture: Architecture
    training: Training
    network: nn.Module
    parameters: int
    choice: str


def tuned(x: Tensor, y: Tensor, n_classes: int, trials: int, seed: int, starts: int = STARTS) -> Tuned:
    """The MLP with the best mean accuracy over inner folds among `trials`, the first of equals.

    A training whose loss is not finite scores 0.

    Args:
        x, y, n_classes, seed, starts: as of `GradientLevel`.
        trials: of the search.

    Raises:
        BionasError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise BionasError(
            "the tuned MLP needs Optuna: pip install -c constraints.txt 'bionas[companions]', or leave mlp_tuned out "
            "of the models."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def score(trial: Any) -> float:
        architecture, training = suggested(trial)
        try:
            return float(GradientLevel(x, y, n_classes, training, seed)([architecture])[0])
        except TrainingError:
            return 0.0

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(score, n_trials=trials)
    architecture, training = suggested(optuna.trial.FixedTrial(study.best_params))
    level = GradientLevel(x, y, n_classes, training, seed, starts=starts)
    choice = (
        f"{architecture}, {training.optimizer}, rate {training.learning_rate:.3g}, decay {training.weight_decay:.3g}, "
        f"batch {training.batch_size or 'all'}, {training.steps} steps"
    )
    return Tuned(architecture, training, level.final(architecture), level.parameters(architecture), choice)


def suggested(trial: Any) -> tuple[Architecture, Training]:
    """What a trial of Optuna proposes."""
    layers = trial.suggest_int("layers", *LAYERS)
    neurons = tuple(trial.suggest_int(f"neurons_{i}", *NEURONS, log=True) for i in range(layers))
    architecture = Architecture(neurons, trial.suggest_categorical("activation", list(ACTIVATIONS)))
    return architecture, Training(
        steps=trial.suggest_categorical("steps", STEPS),
        learning_rate=trial.suggest_float("learning_rate", *RATES, log=True),
        weight_decay=trial.suggest_float("weight_decay", *DECAYS, log=True),
        batch_size=trial.suggest_categorical("batch_size", BATCHES),
        optimizer=trial.suggest_categorical("optimizer", list(OPTIMIZERS)),
    )
