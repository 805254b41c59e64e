"""Optuna (Akiba et al. 2019): tree-structured Parzen estimator over `space`, with a pruner and a journal to resume from."""

from __future__ import annotations

from bionas.studies.automl.configurations import Configurations
from bionas.studies.automl.space import SPACE, Choice, Configuration, Whole
from bionas.studies.automl.systems import SEARCH_SHARE, SYSTEMS, Found, Problem, System, needs
from bionas.studies.automl.training import Pruned

STARTUP = 5
"""Trials before any is pruned."""


def suggested(trial) -> Configuration:
    """A configuration, as Optuna's `trial` suggests it."""
    values = {}
    for dimension in SPACE:
        if isinstance(dimension, Choice):
            values[dimension.name] = trial.suggest_categorical(dimension.name, dimension.options)
        else:
            suggest = trial.suggest_int if isinstance(dimension, Whole) else trial.suggest_float
            values[dimension.name] = suggest(dimension.name, dimension.low, dimension.high, log=dimension.log)
    return values


def search(problem: Problem) -> Found:
    """Half of the time for trials, pruned at the median of the earlier ones; the rest trains the best configuration.

    optuna.journal in the problem's folder holds the study: a trial that was running when it was killed is repeated first.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import Trial, TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalFileBackend(str(problem.folder / "optuna.journal"))
    study = optuna.create_study(
        study_name="cnn",
        direction="maximize",
        storage=optuna.storages.JournalStorage(journal),
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )
    tried = Configurations(problem)
    earlier = study.get_trials()
    study.sampler = optuna.samplers.TPESampler(seed=problem.plan.seed + len(earlier))
    with problem.clock.until(SEARCH_SHARE):
        for known in earlier:
            if known.state in (TrialState.COMPLETE, TrialState.PRUNED):
                tried.score(_as_asked(known.params))
            elif known.state == TrialState.RUNNING:
                study.tell(known.number, state=TrialState.FAIL)
                study.enqueue_trial(known.params)
        while problem.clock.left or not tried.rows:
            trial = study.ask()

            def watch(epoch: int, val_accuracy: float, trial: Trial = trial) -> None:
                trial.report(val_accuracy, epoch)
                if trial.should_prune():
                    raise Pruned

            trained = tried.score(suggested(trial), watch)
            if trained.epochs == 0:
                study.tell(trial, state=TrialState.FAIL)
            elif trained.ended == "pruned":
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, trained.val_accuracy)
    return tried.found()


def _as_asked(parameters: Configuration) -> Configuration:
    """In the order of the space, as those of a new trial."""
    return {dimension.name: parameters[dimension.name] for dimension in SPACE}


SYSTEMS.register("optuna")(
    System(
        "optuna",
        "Optuna (HPO for CNN)",
        search,
        "the space of CNNs is ours",
        needs("Optuna", "optuna"),
        packages=("optuna",),
    )
)
