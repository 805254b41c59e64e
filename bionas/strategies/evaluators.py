"""Evaluators: score a genotype by training it and scoring it on validation, or by looking up a table.

An evaluator is called with a genotype and returns a `Score`; it never reads the test split. `images` is what one
candidate costs in training images, `offers` what strategies may ask of it: "children" are trained one by one,
"fidelities" trains them for a chosen number of epochs, a "supernet" is trained once for all, "networks" are untrained and
only counted or looked at. A strategy states which it needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bionas.errors import SearchError, TrainingError
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, SearchNetwork
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import Metadata, MetadataEncoding
from bionas.strategies.space import Space
from bionas.system.progress import told_to
from bionas.training.configuration import Plan
from bionas.training.cost import cost
from bionas.training.fitting import Fit
from bionas.training.loop import predict
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

CHILDREN, SUPERNET, FIDELITIES, NETWORKS = "children", "supernet", "fidelities", "networks"


class Score(NamedTuple):
    """The result of a candidate: `value` is maximised, `images` is what it cost, `columns` are added to its trace row."""

    value: float
    images: int
    columns: Mapping[str, Any] = MappingProxyType({})


class Supernet(NamedTuple):
    """A freshly initialised supernet, and what it is trained on."""

    model: SearchNetwork
    train: SpecimenSet
    val: SpecimenSet
    encoding: MetadataEncoding
    config: SearchConfig
    description: dict[str, Any]


class Evaluator(Protocol):
    """What strategies ask of an evaluator.

    Attributes:
        offers: some of "children", "fidelities", "supernet", "networks".
        images: training images of one candidate, at least what its `Score.images` will be.
        epochs: of one candidate ("fidelities").
        description: plain data; two evaluators with the same description give the same scores.
    """

    offers: frozenset[str]
    epochs: int
    description: dict[str, Any]

    @property
    def images(self) -> int: ...

    def __call__(self, genotype: Genotype) -> Score:
        """Train and score one child ("children")."""

    def at(self, epochs: int) -> Evaluator:
        """The same evaluator with children trained for that many epochs ("fidelities")."""

    def supernet(self, space: Space, seed: int) -> Supernet:
        """The supernet over `space` ("supernet")."""

    def network(self, genotype: Genotype, seed: int) -> nn.Module:
        """The untrained network of a genotype at search width ("networks"): `network(image, metadata) -> logits`."""

    def example(self) -> tuple[Tensor, Metadata]:
        """One input of that network: an image of ones (1, 3, S, S), every field unknown ("networks")."""

    def macs(self, genotype: Genotype) -> int:
        """Multiply-adds of one image at search width ("networks")."""

    @property
    def macs_limit(self) -> float:
        """The largest `macs` that the target allows, infinite without a limit ("networks")."""


class TableEvaluator:
    """Scores that were measured before, by `Genotype.key`: a search takes milliseconds.

    Args:
        scores: key -> the scores of its trainings, one or several. A search sees one of them, as it would have trained
            once; which one is drawn by (seed, key).
        images: of one training.
        seed: of that draw.
        fidelities: epochs -> table of trainings of that length, this one included; for multi-fidelity strategies.
        networks: evaluator that builds the untrained networks of these genotypes.
    """

    epochs = 0

    def __init__(
        self,
        scores: Mapping[str, Sequence[float]],
        images: int,
        seed: int = 0,
        *,
        fidelities: Mapping[int, TableEvaluator] | None = None,
        networks: PlanEvaluator | None = None,
    ):
        self.offers = frozenset(
            {CHILDREN} | ({FIDELITIES} if fidelities else set()) | ({NETWORKS} if networks else set())
        )
        self.fidelities, self.networks = dict(fidelities or {}), networks
        if fidelities:
            self.epochs = max(fidelities)
        self.scores = {key: tuple(map(float, np.atleast_1d(values))) for key, values in scores.items()}
        self.images, self.seed = int(images), seed
        self._positions = {key: i for i, key in enumerate(self.scores)}
        table = hashlib.sha256(json.dumps(self.scores, sort_keys=True).encode()).hexdigest()[:12]
        self.description = {"evaluator": "table", "table": table, "images": self.images, "seed": seed}

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, seed: int = 0, column: str = "val_accuracy") -> TableEvaluator:
        """From one row per training: key, images and the score in `column`.

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
        """Over all trainings of this genotype: what a search is judged by, never shown to it."""
        return float(np.mean(self._all(genotype)))

    def best(self) -> float:
        """The highest mean in the table."""
        return max(float(np.mean(values)) for values in self.scores.values())

    def at(self, epochs: int) -> TableEvaluator:
        """Raises SearchError where no training of the table has that many epochs."""
        if epochs not in self.fidelities:
            known = ", ".join(map(str, sorted(self.fidelities))) or "none"
            raise SearchError(f"the table of scores has no trainings of {epochs} epochs (it has: {known}).")
        return self.fidelities[epochs]

    def supernet(self, space: Space, seed: int) -> Supernet:
        raise SearchError("a table of scores has no supernet to train.")

    def network(self, genotype: Genotype, seed: int) -> nn.Module:
        return self._networks().network(genotype, seed)

    def example(self) -> tuple[Tensor, Metadata]:
        return self._networks().example()

    def macs(self, genotype: Genotype) -> int:
        return self._networks().macs(genotype)

    @property
    def macs_limit(self) -> float:
        return self._networks().macs_limit

    def _networks(self) -> PlanEvaluator:
        if self.networks is None:
            raise SearchError("this table of scores was made without networks=..., so it has none to build.")
        return self.networks

    def _all(self, genotype: Genotype) -> tuple[float, ...]:
        if genotype.key() not in self.scores:
            raise SearchError(f"{genotype.key()!r} is not in the table of {len(self.scores)} scores.")
        return self.scores[genotype.key()]


class PlanEvaluator:
    """Children and supernets of a plan: its specimens, metadata, fusion, sizes and seed.

    A child is trained from scratch for `epochs` and scored by its accuracy on validation. Its run folder is named by what it
    computes, so a finished child is read and not trained again, whichever strategy asks for it. A child whose training
    fails (a loss that is not finite) scores 0.

    Args:
        plan: every choice but the epochs of a child.
        epochs: of a child.
        splits: other specimens than the plan's own splits, such as ones under a clock.
        at_target: children have the size of the final network (the plan's `derived_channels` or `max_mmacs`) and not that
            of the search. All candidates then cost about the same where `max_mmacs` is given.
        keep_weights: keep the checkpoint of finished children; hundreds of them would fill a disk.
    """

    offers = frozenset({CHILDREN, FIDELITIES, SUPERNET, NETWORKS})

    def __init__(
        self,
        plan: Plan,
        epochs: int,
        splits: Splits | None = None,
        *,
        at_target: bool = False,
        keep_weights: bool = False,
    ):
        self.splits = plan.training_splits() if splits is None else splits
        self.given, self.epochs, self.at_target, self.keep_weights = plan, epochs, at_target, keep_weights
        self.searched = dataclasses.replace(plan, epochs=epochs, derived_channels=None, max_mmacs=None)
        self.plan = dataclasses.replace(plan, epochs=epochs) if at_target else self.searched
        self.config: FitConfig = self.plan.fit_config()
        self.description = {
            "evaluator": "plan",
            "fit": dataclasses.asdict(self.config),
            "search": {**dataclasses.asdict(self.plan.search_config()), "epochs": None},
            **self.plan.describe(),
        }
        if at_target:
            self.description |= {"derived_channels": plan.derived_channels, "max_mmacs": plan.max_mmacs}

    @property
    def images(self) -> int:
        n = len(self.splits.train)
        batch = 1 if isinstance(self.config.batch_size, str) else min(self.config.batch_size, n)
        return self.config.epochs * (n // batch * batch)  # whole batches; "auto": the most it can be

    def at(self, epochs: int) -> PlanEvaluator:
        """The same evaluator with children trained for that many epochs."""
        same = {"at_target": self.at_target, "keep_weights": self.keep_weights}
        return PlanEvaluator(self.given, epochs, self.splits, **same)

    def space(self) -> Space:
        """The space that the plan's supernet spans."""
        return Space(self.plan.network().reductions, self.plan.primitive_set, self.plan.shared_theta)

    def child_run(self, genotype: Genotype) -> Run:
        """The run folder of a child, trained or not.

        Raises:
            GenotypeError: the genotype is not of the plan's depth or primitive set.
        """
        return self.plan.run("child", self.config, self._child_description(genotype))

    def _child_description(self, genotype: Genotype) -> dict[str, Any]:
        genotype = self.space().canonical(genotype)
        sizes: dict[str, Any] = {}
        if self.at_target:
            sizes = {"derived_network": dataclasses.asdict(self.plan.derived_network(genotype))}
        return self.plan.describe(
            role="child", genotype=genotype.key(), primitive_set=self.plan.primitive_set, **sizes
        )

    def __call__(self, genotype: Genotype) -> Score:
        """Raises GenotypeError where the genotype is not of the plan's depth or primitive set."""
        plan, epochs = self.plan, self.config.epochs
        genotype = self.space().canonical(genotype)
        description = self._child_description(genotype)
        run = plan.run("child", self.config, description)
        if not run.complete:
            train, val, _ = self.splits
            network, encoding = plan.derived(genotype), plan.encoding()
            with told_to(io.StringIO()):
                trainer = Fit(network, train, val, encoding, self.config, run, description).prepare()
                try:
                    trainer.train()
                    core_start = time.process_time()
                    predicted = predict(network, val, encoding, device=plan.device).argmax(1)
                    scoring = time.process_time() - core_start
                    history = run.history
                    run.finish(
                        {
                            "val_accuracy": float((predicted == val.labels).mean()),
                            "val_balanced_accuracy": balanced_accuracy(val.labels, predicted),
                            "epochs": epochs,
                            "images_seen": int(history["images"].sum()),
                            "training_seconds": round(float(history["seconds"].sum()), 2),
                            "core_seconds": round(float(history["core_seconds"].sum()) + scoring, 2),
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
                            "core_seconds": sum(epoch["core_seconds"] for epoch in trainer.history),
                            "failed": str(error),
                        }
                    )
            if not self.keep_weights:
                shutil.rmtree(run.checkpoint_path.parent, ignore_errors=True)
        found = run.summary
        return Score(
            found["val_accuracy"],
            found["images_seen"],
            {
                name: found[name]
                for name in ("val_balanced_accuracy", "training_seconds", "core_seconds", "failed")
                if name in found
            },
        )

    def supernet(self, space: Space, seed: int) -> Supernet:
        """Raises SearchError where the plan's supernet does not span that space."""
        if space != self.space():
            raise SearchError(f"the plan's supernet spans {self.space()}, the search is over {space}.")
        plan = dataclasses.replace(self.searched, seed=seed)
        train, val, _ = self.splits
        description = plan.describe(primitive_set=plan.primitive_set)
        return Supernet(plan.supernet(), train, val, plan.encoding(), plan.search_config(), description)

    # --- untrained networks -------------------------------------------------------------------------------------

    def network(self, genotype: Genotype, seed: int) -> nn.Module:
        """The network of a genotype at search width, initialised from `seed`."""
        return dataclasses.replace(self.searched, seed=seed).derived(genotype)

    def example(self) -> tuple[Tensor, Metadata]:
        inputs = self.plan.inputs()
        categorical = torch.zeros(1, len(inputs["vocabulary_sizes"]), dtype=torch.long)
        image = torch.ones(1, 3, self.plan.image_size, self.plan.image_size)
        return image, Metadata(categorical, torch.zeros(1, inputs["n_numeric"]))

    def macs(self, genotype: Genotype) -> int:
        plan, inputs = self.searched, self.searched.inputs()
        with torch.device("meta"):
            network = DerivedNetwork(genotype, plan.network(), fusion=plan.fusion, **inputs)
        fields = {name: inputs[name] for name in ("vocabulary_sizes", "n_numeric")}
        return cost(network, plan.image_size, **fields)["macs"]

    @property
    def macs_limit(self) -> float:
        return math.inf if self.given.max_mmacs is None else self.given.max_mmacs * 1e6


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))
