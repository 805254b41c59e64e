"""What a genotype is worth: trained and scored on validation, or looked up where that has been done before.

An evaluator is called with a genotype and answers with a `Score`; the test split is not among what it may read. It says
beforehand how many training images one candidate costs, and by `offers` what it can do at all: "children" are trained
one by one, a "supernet" is trained once for all of them. A strategy states which of the two it needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from bionas.errors import SearchError, TrainingError
from bionas.genotype import Genotype
from bionas.network import SearchNetwork
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import MetadataEncoding
from bionas.strategies.space import Space
from bionas.system.progress import told_to
from bionas.training.configuration import Plan
from bionas.training.fitting import Fit
from bionas.training.loop import predict
from bionas.training.recipe import FitConfig, SearchConfig

CHILDREN, SUPERNET = "children", "supernet"


class Score(NamedTuple):
    """What is known of a candidate: `value` is what strategies maximise, `images` what it cost, `columns` join its row
    in the trace."""

    value: float
    images: int
    columns: Mapping[str, Any] = MappingProxyType({})


class Supernet(NamedTuple):
    """What a weight-sharing strategy trains, freshly initialised, and what it is trained on."""

    model: SearchNetwork
    train: SpecimenSet
    val: SpecimenSet
    encoding: MetadataEncoding
    config: SearchConfig
    description: dict[str, Any]


class Evaluator(Protocol):
    """What a strategy asks.

    Attributes:
        offers: "children", "supernet" or both.
        images: training images that one candidate costs, no fewer than its `Score.images` will say.
        description: plain data; two evaluators with the same description give the same scores.
    """

    offers: frozenset[str]
    images: int
    description: dict[str, Any]

    def __call__(self, genotype: Genotype) -> Score:
        """Train and score one child ("children")."""

    def supernet(self, space: Space, seed: int) -> Supernet:
        """The supernet over `space` ("supernet")."""


class TableEvaluator:
    """Scores that were measured before, by `Genotype.key`: a search in milliseconds.

    Args:
        scores: key -> the scores of its trainings, one or several. A search sees one of them, as it would have trained
            once; which one is drawn by (seed, key).
        images: what one training cost.
        seed: of that draw.
    """

    offers = frozenset({CHILDREN})

    def __init__(self, scores: Mapping[str, Sequence[float]], images: int, seed: int = 0):
        self.scores = {key: tuple(map(float, np.atleast_1d(values))) for key, values in scores.items()}
        self.images, self.seed = int(images), seed
        self._positions = {key: i for i, key in enumerate(self.scores)}
        table = hashlib.sha256(json.dumps(self.scores, sort_keys=True).encode()).hexdigest()[:12]
        self.description = {"evaluator": "table", "table": table, "images": self.images, "seed": seed}

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, seed: int = 0, column: str = "val_accuracy") -> TableEvaluator:
        """From a row a training: key, images and the score in `column`.

        Raises:
            SearchError: a column is missing, or the trainings were not of one length.
        """
        if missing := {"key", "images", column} - set(frame.columns):
            raise SearchError(f"the table of scores has no column {', '.join(sorted(missing))}.")
        if frame["images"].nunique() != 1:
            raise SearchError(
                "the trainings in the table of scores saw different numbers of images: train all alike."
            )
        return cls(frame.groupby("key")[column].agg(list).to_dict(), frame["images"].iloc[0], seed)

    def __call__(self, genotype: Genotype) -> Score:
        """Raises SearchError for a genotype that is not in the table."""
        values = self._all(genotype)
        draw = np.random.default_rng([self.seed, self._positions[genotype.key()]])
        return Score(values[draw.integers(len(values))], self.images)

    def mean(self, genotype: Genotype) -> float:
        """Over all trainings of this genotype: what a search is judged by, and never sees."""
        return float(np.mean(self._all(genotype)))

    def best(self) -> float:
        """The highest mean in the table."""
        return max(float(np.mean(values)) for values in self.scores.values())

    def supernet(self, space: Space, seed: int) -> Supernet:
        raise SearchError("a table of scores has no supernet to train.")

    def _all(self, genotype: Genotype) -> tuple[float, ...]:
        if genotype.key() not in self.scores:
            raise SearchError(f"{genotype.key()!r} is not in the table of {len(self.scores)} scores.")
        return self.scores[genotype.key()]


class PlanEvaluator:
    """Children and supernets of a plan: its specimens, metadata, fusion, sizes and seed.

    A child is trained from scratch for `epochs` and scored by its accuracy on validation. Its run folder is named by what it
    computes, so that a finished one is read and not trained again, by whichever strategy it is asked for; of a child
    whose training breaks off (a loss that is not finite) the score is 0.

    Args:
        plan: its networks are built at search width (`derived_channels` and `max_mmacs` are for retraining).
        epochs: of a child.
        splits: other specimens than the plan's own splits, such as ones under a clock.
    """

    offers = frozenset({CHILDREN, SUPERNET})

    def __init__(self, plan: Plan, epochs: int, splits: Splits | None = None):
        self.splits = plan.splits() if splits is None else splits
        self.plan = dataclasses.replace(plan, epochs=epochs, derived_channels=None, max_mmacs=None)
        self.config: FitConfig = self.plan.fit_config()
        self.description = {
            "evaluator": "plan",
            "fit": dataclasses.asdict(self.config),
            "search": {**dataclasses.asdict(self.plan.search_config()), "epochs": None},
            **self.plan.describe(),
        }

    @property
    def images(self) -> int:
        n = len(self.splits.train)
        batch = 1 if self.config.batch_size == "auto" else min(self.config.batch_size, n)
        return self.config.epochs * (n // batch * batch)  # whole batches; "auto": the most it can be

    def space(self) -> Space:
        """The space that the plan's supernet spans."""
        return Space(self.plan.network().reductions, self.plan.primitive_set, self.plan.shared_theta)

    def __call__(self, genotype: Genotype) -> Score:
        """Raises GenotypeError where the genotype is not of the plan's depth or primitive set."""
        plan, epochs = self.plan, self.config.epochs
        genotype = self.space().canonical(genotype)
        description = plan.describe(role="child", genotype=genotype.key(), primitive_set=plan.primitive_set)
        run = plan.run("child", self.config, description)
        if not run.complete:
            train, val, _ = self.splits
            network, encoding = plan.derived(genotype), plan.encoding()
            with told_to(io.StringIO()):
                trainer = Fit(network, train, val, encoding, self.config, run, description)
                try:
                    trainer.train()
                    predicted = predict(network, val, encoding, device=plan.device).argmax(1)
                    history = run.history
                    run.finish(
                        {
                            "val_accuracy": float((predicted == val.labels).mean()),
                            "val_balanced_accuracy": balanced_accuracy(val.labels, predicted),
                            "epochs": epochs,
                            "images_seen": int(history["images"].sum()),
                            "training_seconds": round(float(history["seconds"].sum()), 2),
                        }
                    )
                except TrainingError as error:
                    run.finish(
                        {
                            "val_accuracy": 0.0,
                            "val_balanced_accuracy": 0.0,
                            "epochs": trainer.epoch,
                            "images_seen": self.images,
                            "training_seconds": None,
                            "failed": str(error),
                        }
                    )
            # What is kept of a child is its score: weights of hundreds of them would fill a disk.
            shutil.rmtree(run.checkpoint_path.parent, ignore_errors=True)
        found = run.summary
        return Score(
            found["val_accuracy"],
            found["images_seen"],
            {
                name: found[name]
                for name in ("val_balanced_accuracy", "training_seconds", "failed")
                if name in found
            },
        )

    def supernet(self, space: Space, seed: int) -> Supernet:
        """Raises SearchError where the plan's supernet does not span that space."""
        if space != self.space():
            raise SearchError(f"the plan's supernet spans {self.space()}, the search is over {space}.")
        plan = dataclasses.replace(self.plan, seed=seed)
        train, val, _ = self.splits
        description = plan.describe(primitive_set=plan.primitive_set)
        return Supernet(plan.supernet(), train, val, plan.encoding(), plan.search_config(), description)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))
