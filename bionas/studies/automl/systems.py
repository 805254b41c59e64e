"""The interface of an AutoML system, a function from a `Problem` to what it `Found`, and the registry of systems."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from bionas.errors import AutoMLError
from bionas.registry import Registry
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.studies.automl.clock import Clock
from bionas.studies.automl.environments import Environment
from bionas.system import files
from bionas.training.configuration import Plan

SEARCH_SHARE = 0.5
"""Share of the time for the search, for systems that search with short trainings; the rest trains what they chose."""


class Problem(NamedTuple):
    """What a system is given.

    Attributes:
        plan: the encoding, seed and training choices; runs that are made of it lie in `folder`.
        splits: training and validation specimens under the clock; there is no test side.
        folder: where the system keeps what it needs in order to resume.
        clock: how long it may work.
    """

    plan: Plan
    splits: Splits
    folder: Path
    clock: Clock

    @property
    def n_classes(self) -> int:
        return len(self.plan.specimens().class_names)

    def write_candidates(self, candidates: list[dict[str, Any]]) -> None:
        """Write candidates.csv: one row per candidate, in the order in which they were tried."""
        files.write_csv(self.folder / "candidates.csv", pd.DataFrame(candidates))


class Found(NamedTuple):
    """What a system returns.

    Attributes:
        predict: specimens -> class probabilities (N, n_classes).
        chosen: what it chose, as plain data.
        candidates: how many it chose among.
        stopped: why it ended, in words.
        val_accuracy: of the predictor on the validation split; None where the system does not report it.
        model: the predictor where it is a network of ours, whose cost can be counted.
        about: parameters, epochs, learning_rate, images_seen, where they are known otherwise.
    """

    predict: Callable[[SpecimenSet], np.ndarray]
    chosen: dict[str, Any]
    candidates: int
    stopped: str
    val_accuracy: float | None = None
    model: nn.Module | None = None
    about: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class System:
    """A system of Table V.

    Attributes:
        name: as it is typed.
        paper: its row of `data/paper/table5_automl_nas.csv`.
        search: solves a problem.
        note: what a reader of its row must know.
        require: raises AutoMLError where it is not installed here.
        environment: its own, where it has one.
        packages: of this environment, whose versions are recorded in a run's provenance.
    """

    name: str
    paper: str
    search: Callable[[Problem], Found]
    note: str
    require: Callable[[], None] = lambda: None
    environment: Environment | None = None
    packages: tuple[str, ...] = ()


SYSTEMS: Registry[System] = Registry("AutoML system")


def needs(package: str, module: str) -> Callable[[], None]:
    """A `require` for a system that shares this environment.

    Raises (when called):
        AutoMLError: it is not installed; the message is the command that installs it.
    """

    def require() -> None:
        if importlib.util.find_spec(module) is None:
            raise AutoMLError(
                f"{package} is not installed. In the checkout: pip install -c constraints.txt -e '.[automl]'"
            )

    return require
