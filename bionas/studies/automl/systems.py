"""What a system is to the rest: a function from a `Task` to what it `Found`, and the registry of those that have a name."""

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
from bionas.specimens.collection import SpecimenSet
from bionas.studies.automl.clock import Clock, TimedPlan
from bionas.studies.automl.environments import Environment
from bionas.system import files

SEARCH_SHARE = 0.5
"""Of the time, for the systems that search with short trainings; the rest is for training what they chose."""


class Task(NamedTuple):
    """What a system is given.

    Attributes:
        plan: its splits (without a test side), its encoding, its seed; runs that are made of it lie in `folder`.
        folder: where the system keeps what it needs in order to go on.
        clock: how long it may work.
    """

    plan: TimedPlan
    folder: Path
    clock: Clock

    @property
    def n_classes(self) -> int:
        return len(self.plan.specimens().class_names)

    def tell(self, candidates: list[dict[str, Any]]) -> None:
        """Write candidates.csv: a row a candidate, in the order in which they were tried."""
        files.write_csv(self.folder / "candidates.csv", pd.DataFrame(candidates))


class Found(NamedTuple):
    """What a system leaves.

    Attributes:
        predict: specimens -> class probabilities (N, n_classes).
        chosen: what it chose, as plain data.
        candidates: how many it chose among.
        stopped: why it ended, in words.
        val_accuracy: of what is left, on the validation split; None where the system does not say.
        model: where it is a network of ours, which can be weighed.
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
        search: what it does with a task.
        note: what a reader of its row must know.
        require: raises AutoMLError where it cannot be had here.
        environment: its own, where it has one.
        packages: of this environment, whose versions belong to a run's birth.
    """

    name: str
    paper: str
    search: Callable[[Task], Found]
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
