"""What notebooks and commands run: a `Plan` holds every choice, and each function below turns it into a run folder.

    plan(mode, ...) -> Plan            search(plan) -> Run            retrain(plan, genotype) -> Run
    random_controls(plan) -> [Run]     baseline(plan, name) -> Run

A finished run is returned at once, an interrupted one goes on. A run folder's name carries a hash of its choices, its
data and the code that decides its numbers, so that two configurations never share one. The test split is read once,
when a run is complete.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bionas import evaluation, files, places
from bionas.baselines import BASELINES
from bionas.cost import cost
from bionas.errors import CheckpointError, UnknownName
from bionas.genotype import Genotype
from bionas.loop import predict
from bionas.network import DerivedNetwork, NetworkConfig, SearchNetwork, preset
from bionas.recipe import FitConfig, SearchConfig
from bionas.runs import Run, code_fingerprint
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import MetadataEncoding
from bionas.trainer import BilevelTrainer, Fit

MODES: dict[str, dict[str, Any]] = {
    "smoke": {"preset": "tiny", "search_epochs": 2, "epochs": 2, "batch_size": 32, "limit": 240},
    "quick": {"preset": "quick", "search_epochs": 10, "epochs": 20, "batch_size": 64, "limit": None},
    "full": {"preset": "paper", "search_epochs": 50, "epochs": 100, "batch_size": "auto", "limit": None},
}
"""What a mode stands for where a plan does not say otherwise. `smoke` proves that it runs, and says nothing more."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Every choice of a run; see `plan` for the defaults.

    `seed` is that of initialisation, order and dropout. Collection and split are drawn with `data_seed`, so that runs
    of several seeds share their test specimens.
    """

    mode: str
    source: str
    data_dir: str | None
    target: str
    min_records: int | None
    metadata: str
    split: str
    preset: str
    image_size: int
    limit: int | None
    primitive_set: str
    fusion: str
    theta_data: str
    shared_theta: bool
    derived_channels: int | None
    search_epochs: int
    epochs: int
    batch_size: int | str
    learning_rate: float | None
    augment: str
    precision: str
    device: str
    seed: int
    data_seed: int
    run_dir: str

    # --- data ---------------------------------------------------------------------------------------------------

    def specimens(self) -> SpecimenSet:
        """The whole collection, read once a process."""
        return _specimens(
            self.source, self.data_dir, self.target, self.min_records, self.image_size, self.limit, self.data_seed
        )

    def splits(self) -> Splits:
        """Training, validation and test specimens.

        Raises:
            SpecimenError: a class too small to train on; the message says which and what to do.
        """
        return _splits(self)

    def encoding(self) -> MetadataEncoding:
        """The metadata encoding, its vocabularies from the training split alone."""
        return _encoding(self)

    # --- parts --------------------------------------------------------------------------------------------------

    def network(self) -> NetworkConfig:
        """The sizes of the supernet."""
        return dataclasses.replace(preset(self.preset), image_size=self.image_size, shared_theta=self.shared_theta)

    def derived_network(self) -> NetworkConfig:
        """The sizes of derived networks: the supernet's, or wider."""
        sizes = self.network()
        return dataclasses.replace(sizes, channels=self.derived_channels or sizes.channels)

    def inputs(self) -> dict[str, Any]:
        """n_classes, vocabulary_sizes and n_numeric, as the networks want them."""
        encoding = self.encoding()
        return {
            "n_classes": len(self.specimens().class_names),
            "vocabulary_sizes": encoding.vocabulary_sizes,
            "n_numeric": encoding.n_numeric,
        }

    def supernet(self) -> SearchNetwork:
        """The supernet of this plan, freshly initialised from its seed."""
        torch.manual_seed(self.seed)
        return SearchNetwork(self.network(), primitives=self.primitive_set, fusion=self.fusion, **self.inputs())

    def derived(self, genotype: Genotype) -> DerivedNetwork:
        """The network of a genotype, freshly initialised from the plan's seed.

        Raises:
            GenotypeError: the genotype is of another primitive set or depth than the plan.
        """
        genotype.require(self.network().reductions, self.primitive_set)
        torch.manual_seed(self.seed)
        return DerivedNetwork(genotype, self.derived_network(), fusion=self.fusion, **self.inputs())

    def search_config(self) -> SearchConfig:
        return SearchConfig(epochs=self.search_epochs, theta_data=self.theta_data, **self._training())

    def fit_config(self) -> FitConfig:
        rate = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        return FitConfig(epochs=self.epochs, augment=self.augment, **rate, **self._training())

    def _training(self) -> dict[str, Any]:
        names = ("batch_size", "precision", "device", "seed")
        return {name: getattr(self, name) for name in names}

    # --- places -------------------------------------------------------------------------------------------------

    def folder(self) -> Path:
        """Where the runs of this plan lie."""
        return Path(self.run_dir) / f"{self.source}-{self.mode}" / f"seed{self.seed}"

    def describe(self, **more: Any) -> dict[str, Any]:
        """What a run's config.json says beside the training configuration."""
        of_data = ("source", "target", "min_records", "metadata", "split", "limit", "data_seed")
        return {
            **{name: getattr(self, name) for name in of_data},
            "mode": self.mode,
            "network": dataclasses.asdict(self.network()),
            "fusion": self.fusion,
            "data_fingerprint": self.specimens().fingerprint,
            "code": code_fingerprint(),
            **more,
        }

    def run(self, role: str, config: FitConfig, description: dict[str, Any]) -> Run:
        """The run folder of a role (search, derived, ...): its name ends in a hash of all that makes it this run."""
        identity = json.dumps([dataclasses.asdict(config), description], sort_keys=True)
        return Run(self.folder() / f"{role}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}")


def plan(
    mode: str = "quick",
    *,
    source: str = "synthetic",
    data_dir: str | os.PathLike | None = None,
    target: str = "order",
    min_records: int | None = None,
    metadata: str | None = "leak_free",
    split: str | None = None,
    preset: str | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    primitive_set: str = "full",
    fusion: str = "concatenation",
    theta_data: str = "val",
    shared_theta: bool = False,
    derived_channels: int | None = None,
    search_epochs: int | None = None,
    epochs: int | None = None,
    batch_size: int | str | None = None,
    learning_rate: float | None = None,
    augment: str = "none",
    precision: str = "auto",
    device: str = "auto",
    seed: int = 0,
    data_seed: int = 0,
    run_dir: str | os.PathLike | None = None,
) -> Plan:
    """Every choice of a run. None stands for the mode's default (`MODES`), or the source's.

    Args:
        mode: smoke (seconds, proves that it runs), quick (minutes, the embedded default), full (paper scale).
        source, data_dir: a name of `specimens.SOURCES`, and where its files are.
        metadata: a preset of `METADATA_PRESETS`; "none" or None for images alone.
        split: a scheme of `SPLITS`; by default "official" where the records have a split of their own to follow
            (source folder with a `split` column), else "paper".
        learning_rate: peak of the retraining's schedule; the search keeps the paper's 1e-3.
        derived_channels: width of derived networks where it is not that of the search: cells are often searched narrow and
            trained wide (as in DARTS).
        augment: of the retraining. The search is never augmented, as in the paper.
        run_dir: the folder of run folders; `runs/` of the checkout by default.

    Raises:
        UnknownName: a mode or preset that there is not.
    """
    from bionas.network import preset as sizes

    if mode not in MODES:
        raise UnknownName("mode", mode, MODES)
    given = {"preset": preset, "search_epochs": search_epochs, "epochs": epochs, "batch_size": batch_size, "limit": limit}
    chosen = {name: value if value is not None else MODES[mode][name] for name, value in given.items()}
    return Plan(
        mode=mode,
        source=source,
        data_dir=None if data_dir is None else str(data_dir),
        target=target,
        min_records=min_records,
        metadata=metadata or "none",
        split=split or "auto",
        image_size=image_size or sizes(chosen["preset"]).image_size,
        primitive_set=primitive_set,
        fusion=fusion,
        theta_data=theta_data,
        shared_theta=shared_theta,
        derived_channels=derived_channels,
        learning_rate=learning_rate,
        augment=augment,
        precision=precision,
        device=device,
        seed=seed,
        data_seed=data_seed,
        run_dir=str(places.runs(run_dir)),
        **chosen,
    )


# --- what a plan can do -----------------------------------------------------------------------------------------


def search(plan: Plan) -> Run:
    """Search (Algorithm 1): alphas.csv, history.csv, genotype.json and the supernet's weights in checkpoint/."""
    config = plan.search_config()
    description = plan.describe(role="search", primitive_set=plan.primitive_set)
    run = plan.run("search", config, description)
    if run.complete:
        return run
    train, val, _ = plan.splits()
    trainer = BilevelTrainer(plan.supernet(), train, val, plan.encoding(), config, run, description)
    trainer.train()
    run.finish(_summary(run))
    return run


def retrain(plan: Plan, genotype: Genotype, name: str = "derived", inherit: Run | None = None) -> Run:
    """Train the network of a genotype and evaluate it on the test split.

    Args:
        name: of the run folder.
        inherit: a finished search whose supernet weights it starts from; from scratch without one. Then done.json
            also says how the inherited weights did on validation before any training.

    Raises:
        GenotypeError: the genotype is of another primitive set or depth than the plan.
        CheckpointError: `inherit` is not finished, or searched another supernet than the plan's.
    """

    def build() -> nn.Module:
        network = plan.derived(genotype)
        if inherit is not None:
            network.inherit(_searched(plan, inherit))
        return network

    return _fit(
        plan, build, name, genotype=json.loads(genotype.to_json()), inherit=inherit and inherit.path.name,
        network=dataclasses.asdict(plan.derived_network()),
    )  # fmt: skip


def _searched(plan: Plan, run: Run) -> SearchNetwork:
    state = run.load_checkpoint()
    if state is None or not run.complete:
        raise CheckpointError(f"{run.path} is not a finished search: there is nothing to inherit. Finish it first.")
    supernet = plan.supernet()
    try:
        supernet.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{run.path} searched another supernet than this plan's: inherit from a search of the same preset, "
            "primitive set, metadata and classes."
        ) from error
    return supernet


def random_controls(plan: Plan, n: int = 3) -> list[Run]:
    """The control that search papers owe: `n` random genotypes, trained and evaluated just as the derived one.

    Drawn uniformly over primitives (`Genotype.random`), the i-th the same for every seed of the plan.
    """
    return [retrain(plan, random_genotype(plan, i), f"random-{i + 1}") for i in range(n)]


def random_genotype(plan: Plan, i: int) -> Genotype:
    """The i-th random genotype of a plan's space."""
    config = plan.network()
    generator = np.random.default_rng([plan.data_seed, i])
    return Genotype.random(config.cells, config.reductions, plan.primitive_set, generator)


def baseline(plan: Plan, name: str) -> Run:
    """Train a network of `BASELINES` from scratch under the plan's budget, on images alone, and evaluate it."""
    build = BASELINES[name]

    def seeded() -> nn.Module:
        torch.manual_seed(plan.seed)
        return build(len(plan.specimens().class_names))

    return _fit(plan, seeded, name, baseline=name)


def _fit(plan: Plan, build: Callable[[], nn.Module], role: str, **identity: Any) -> Run:
    config = plan.fit_config()
    description = plan.describe(role=role, **identity)
    run = plan.run(role, config, description)
    if run.complete:
        return run
    train, val, test = plan.splits()
    encoding, network = plan.encoding(), build()
    summary = {}
    if identity.get("inherit"):
        as_inherited = predict(network, val, encoding, device=plan.device).argmax(1)
        summary["inherited_val_accuracy"] = float((as_inherited == val.labels).mean())
    trainer = Fit(network, train, val, encoding, config, run, description)
    trainer.train()
    if identity.get("genotype"):
        files.write_json(run.path / "genotype.json", identity["genotype"])
    files.write_text(run.path / "metadata_encoding.json", encoding.to_json())
    probabilities = predict(network, test, encoding, device=plan.device)
    result = evaluation.evaluate(test.labels, probabilities, test.class_names, train_labels=train.labels)
    rows = evaluation.predictions_frame(test.records, test.labels, probabilities, test.class_names)
    evaluation.write_evaluation(run.path, result, rows)
    sizes = cost(network, plan.image_size, vocabulary_sizes=encoding.vocabulary_sizes, n_numeric=encoding.n_numeric)
    run.finish(_summary(run) | summary | sizes)
    return run


def _summary(run: Run) -> dict[str, Any]:
    history = run.history
    return {
        "epochs": int(history["epoch"].max()),
        "images_seen": int(history["images"].sum()),
        "minutes": round(float(history["seconds"].sum()) / 60, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@functools.lru_cache(maxsize=2)
def _specimens(
    source: str, data_dir: str | None, target: str, min_records: int | None, image_size: int, limit: int | None, seed: int
) -> SpecimenSet:
    return load_specimens(
        source, data_dir, target=target, min_records=min_records, image_size=image_size, limit=limit, seed=seed,
        cache_dir=places.cache(),
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def _encoding(plan: Plan) -> MetadataEncoding:
    return MetadataEncoding.fit(plan.splits().train, plan.metadata)


@functools.lru_cache(maxsize=4)
def _splits(plan: Plan) -> Splits:
    specimens = plan.specimens()
    specimens.require_trainable()
    scheme = plan.split
    if scheme == "auto":
        own = plan.source == "folder" and "split" in specimens.records and specimens.records["split"].notna().any()
        scheme = "official" if own else "paper"
    return specimens.split(scheme, plan.data_seed)
