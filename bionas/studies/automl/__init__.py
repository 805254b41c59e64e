"""The AutoML and NAS systems of Table V behind one call, `run(plan, "optuna", minutes=10) -> Run`.

    optuna, smac3                one space of small CNNs and their training (`space`), searched two ways
    enas, nao, bioautoml-nas     ours, from `strategies`
    tpot, autokeras, autogluon   in separate environments (`environments`), which exchange files with ours

A system is given the training and validation split, with the metadata as the plan encodes them, and a number of minutes of
wall time (`clock`). It returns a predictor, which is judged on the test split by `evaluation` like every other network.
"""

from bionas.studies.automl.adapters import apart_systems, optuna, smac3, strategies  # noqa: F401 (they register)
from bionas.studies.automl.study import failure, measured, run, table
from bionas.studies.automl.systems import SYSTEMS, Found, Problem, System

__all__ = ["SYSTEMS", "Found", "Problem", "System", "failure", "measured", "run", "table"]
