"""The AutoML and NAS systems of Table V: one call for all, `run(plan, "optuna", minutes=10) -> Run`.

    optuna, smac3          one space of small CNNs and their training (`space`), searched two ways
    enas, nao              ours, from `strategies`
    tpot, autokeras, autogluon   in environments of their own (`environments`), talked to through files

A system is given the training and the validation split, with the metadata as the plan encodes them, and so many minutes of
wall time (`clock`). It leaves a predictor, which is judged on the test split by `evaluation` as every other network is.
"""

import importlib
import pkgutil

from bionas.studies.automl import adapters
from bionas.studies.automl.study import failure, measured, run, table
from bionas.studies.automl.systems import SYSTEMS, Found, System, Task

for _module in pkgutil.iter_modules(adapters.__path__):
    importlib.import_module(f"{adapters.__name__}.{_module.name}")

__all__ = ["SYSTEMS", "Found", "System", "Task", "failure", "measured", "run", "table"]
