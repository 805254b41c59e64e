"""SMAC3 (Lindauer et al. 2022): Bayesian optimisation by a random forest over `space`, expected improvement next.

With the same seed and the same scores it proposes the same configurations again, and the scores are read from finished
trainings: so a killed search resumes without a state of its own.
"""

from __future__ import annotations

from bionas.studies.automl.configurations import Configurations
from bionas.studies.automl.space import SPACE, Choice, Configuration, Whole
from bionas.studies.automl.systems import SEARCH_SHARE, SYSTEMS, Found, Problem, System, needs

INITIAL = 8
"""Configurations of a Sobol sequence before the forest proposes."""
MOST = 10_000
"""SMAC3 requires a number of trials; the time ends the search."""


def configuration_space(seed: int):
    """`space.SPACE` as a ConfigSpace."""
    from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, Float, Integer

    def hyperparameter(dimension):
        if isinstance(dimension, Choice):
            return CategoricalHyperparameter(dimension.name, list(dimension.options))
        kind = Integer if isinstance(dimension, Whole) else Float
        return kind(dimension.name, (dimension.low, dimension.high), log=dimension.log)

    found = ConfigurationSpace(seed=seed)
    found.add([hyperparameter(dimension) for dimension in SPACE])
    return found


def search(problem: Problem) -> Found:
    """Half of the time for trials of equal length; the rest trains the best configuration."""
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.runhistory.dataclasses import TrialValue

    seed = problem.plan.seed
    scenario = Scenario(
        configuration_space(seed),
        name="cnn",
        output_directory=problem.folder / "smac3",
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
    tried = Configurations(problem)
    with problem.clock.until(SEARCH_SHARE):
        while True:
            asked = smac.ask()
            configuration = _plain(asked.config)
            if tried.rows and not problem.clock.left and not tried.knows(configuration):
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
