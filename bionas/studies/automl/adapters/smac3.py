"""SMAC3 (Lindauer et al. 2022): Bayesian optimisation by a random forest over `space`, expected improvement next.

It is asked and told, and keeps nothing that it needs: with one seed and the same answers it asks the same questions again, and the
answers are read from the trainings that are finished. So a killed search goes on.
"""

from __future__ import annotations

from bionas.studies.automl.configurations import Configurations
from bionas.studies.automl.space import SPACE, Choice, Configuration, Whole
from bionas.studies.automl.systems import SEARCH_SHARE, SYSTEMS, Found, System, Task, needs

INITIAL = 8
"""Configurations of a Sobol sequence before the forest decides."""
MOST = 10_000
"""SMAC3 wants a number of trials; the time ends the search."""


def configuration_space(seed: int):
    """`space.SPACE` in ConfigSpace's words."""
    from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, Float, Integer

    def hyperparameter(dimension):
        if isinstance(dimension, Choice):
            return CategoricalHyperparameter(dimension.name, list(dimension.options))
        kind = Integer if isinstance(dimension, Whole) else Float
        return kind(dimension.name, (dimension.low, dimension.high), log=dimension.log)

    found = ConfigurationSpace(seed=seed)
    found.add([hyperparameter(dimension) for dimension in SPACE])
    return found


def search(task: Task) -> Found:
    """Half of the time for trials of equal length; the rest trains the best configuration."""
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.runhistory.dataclasses import TrialValue

    seed = task.plan.seed
    scenario = Scenario(
        configuration_space(seed),
        name="cnn",
        output_directory=task.folder / "smac3",
        deterministic=True,
        n_trials=MOST,
        seed=seed,
    )
    smac = Facade(
        scenario,
        lambda config, seed: None,
        overwrite=True,
        logging_level=False,
        initial_design=Facade.get_initial_design(scenario, n_configs=INITIAL),
    )
    tried = Configurations(task)
    with task.clock.until(SEARCH_SHARE):
        while True:
            asked = smac.ask()
            configuration = _plain(asked.config)
            if tried.rows and not task.clock.left and not tried.knows(configuration):
                break
            trained = tried.score(configuration)
            smac.tell(asked, TrialValue(cost=1 - trained.val_accuracy))
    return tried.found()


def _plain(config) -> Configuration:
    """In the order of the space, without numpy's types."""
    values = {dimension.name: config[dimension.name] for dimension in SPACE}
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


SYSTEMS.register("smac3")(
    System(
        "smac3",
        "SMAC3 (Bayesian Opt.)",
        search,
        "the space of CNNs is ours, the same as Optuna's",
        needs("SMAC3", "smac"),
        packages=("smac", "ConfigSpace"),
    )
)
