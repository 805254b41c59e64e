"""A `Plan` is every choice of a run: collection, split, metadata, sizes, training, seed. `plan` fills in the defaults.

It reads its collection once a process, builds its networks from its seed, and knows in which folder each of its runs
belongs. What is then done with it is in `experiments`.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

import torch

from bionas.errors import SpecimenError, TrainingError, UnknownName
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, MetadataNetwork, NetworkConfig, SearchNetwork
from bionas.network import preset as sizes_of
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import MetadataEncoding
from bionas.system import places
from bionas.training.cost import cost
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run, code_fingerprint

MODES: dict[str, dict[str, Any]] = {
    "smoke": {"preset": "tiny", "search_epochs": 2, "epochs": 2, "batch_size": 32, "limit": 240},
    "quick": {"preset": "quick", "search_epochs": 10, "epochs": 20, "batch_size": 64, "limit": None},
    "full": {"preset": "paper", "search_epochs": 50, "epochs": 100, "batch_size": "auto", "limit": None},
}
"""What a mode stands for where a plan does not say otherwise. `smoke` proves that it runs, and says nothing more."""

WIDTHS = range(4, 513, 4)
"""The channels that `max_mmacs` chooses from."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Every choice of a run; see `plan` for the defaults.

    `seed` is that of initialisation, order and dropout. Collection and split are drawn with `data_seed`, so that runs
    of several seeds share their test specimens.
    """

    mode: str
    source: str
    data_dir: str | None
    source_options: str
    target: str
    unlabelled: str
    min_records: int | None
    metadata: str
    bin_buckets: int
    split: str
    preset: str
    image_size: int
    limit: int | None
    primitive_set: str
    fusion: str
    theta_data: str
    theta_learning_rate: float | None
    warmup_epochs: int
    theta_batch_norm: str
    max_skips: int | None
    shared_theta: bool
    derived_channels: int | None
    max_mmacs: float | None
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
            self.source,
            self.data_dir,
            self.source_options,
            self.target,
            self.unlabelled,
            self.min_records,
            self.image_size,
            self.limit,
            self.data_seed,
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
        return dataclasses.replace(
            sizes_of(self.preset), image_size=self.image_size, shared_theta=self.shared_theta
        )

    def derived_network(self, genotype: Genotype) -> NetworkConfig:
        """The sizes of a genotype's network: the supernet's, or wider by `derived_channels` or `max_mmacs`.

        Raises:
            TrainingError: not even the narrowest network of this genotype keeps within `max_mmacs`.
        """
        sizes = self.network()
        if self.max_mmacs is None:
            return dataclasses.replace(sizes, channels=self.derived_channels or sizes.channels)

        def mmacs(channels: int) -> float:
            with torch.device("meta"):
                wide = dataclasses.replace(sizes, channels=channels)
                network = DerivedNetwork(genotype, wide, fusion=self.fusion, **self.inputs())
            fields = {name: self.inputs()[name] for name in ("vocabulary_sizes", "n_numeric")}
            return cost(network, self.image_size, **fields)["macs"] / 1e6

        fitting = bisect.bisect_right(WIDTHS, self.max_mmacs, key=mmacs)
        if fitting == 0:
            raise TrainingError(
                f"max_mmacs={self.max_mmacs:g}: at {WIDTHS[0]} channels this genotype already costs {mmacs(WIDTHS[0]):.1f} "
                "million MACs. Allow more, or choose a preset with fewer cells or a stem of larger stride."
            )
        return dataclasses.replace(sizes, channels=WIDTHS[fitting - 1])

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
        return SearchNetwork(
            self.network(), primitives=self.primitive_set, fusion=self.fusion, **self.inputs()
        )

    def derived(self, genotype: Genotype) -> DerivedNetwork:
        """The network of a genotype, freshly initialised from the plan's seed.

        Raises:
            GenotypeError: the genotype is of another primitive set or depth than the plan.
        """
        genotype.require(self.network().reductions, self.primitive_set)
        torch.manual_seed(self.seed)
        return DerivedNetwork(genotype, self.derived_network(genotype), fusion=self.fusion, **self.inputs())

    def metadata_network(self) -> MetadataNetwork:
        """The metadata encoder and head alone, freshly initialised from the plan's seed."""
        torch.manual_seed(self.seed)
        return MetadataNetwork(self.network(), **self.inputs())

    def search_config(self) -> SearchConfig:
        rate = {} if self.theta_learning_rate is None else {"theta_learning_rate": self.theta_learning_rate}
        return SearchConfig(
            epochs=self.search_epochs,
            theta_data=self.theta_data,
            warmup_epochs=self.warmup_epochs,
            theta_batch_norm=self.theta_batch_norm,
            max_skips=self.max_skips,
            **rate,
            **self._training(),
        )

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
        of_data = (
            "source",
            "source_options",
            "target",
            "unlabelled",
            "min_records",
            "metadata",
            "bin_buckets",
            "split",
            "limit",
            "data_seed",
        )
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
    source_options: str = "",
    target: str = "order",
    unlabelled: str = "drop",
    min_records: int | None = None,
    metadata: str | None = "leak_free",
    bin_buckets: int = 4096,
    split: str | None = None,
    preset: str | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    primitive_set: str = "full",
    fusion: str = "concatenation",
    theta_data: str = "val",
    theta_learning_rate: float | None = None,
    warmup_epochs: int = 0,
    theta_batch_norm: str = "batch",
    max_skips: int | None = None,
    shared_theta: bool = False,
    derived_channels: int | None = None,
    max_mmacs: float | None = None,
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
        source_options: what else the source takes, as "package=cropped_256 splits=train+val+test".
        unlabelled: records without a label are left out ("drop") or a class of their own ("class").
        metadata: a preset of `METADATA_PRESETS`, or fields by name ("family+country"); "none" or None for images alone.
        bin_buckets: size of the hash table of BINs.
        split: a scheme of `SPLITS`; by default "official" where the records have a split of their own to follow
            (source folder with a `split` column), else "paper".
        theta_learning_rate: Adam's for theta, the paper's 3e-4 by default. Adam moves theta by at most rate x steps: on a
            small collection the paper's rate leaves every alpha within a tenth of where it began.
        warmup_epochs: epochs of the search before theta moves.
        theta_batch_norm: "batch" or "running" (`SearchConfig`).
        max_skips: the search ends early once more edges than this are led by skip_connect (`skips.guard`).
        learning_rate: peak of the retraining's schedule; the search keeps the paper's 1e-3.
        derived_channels: width of derived networks where it is not that of the search: cells are often searched narrow and
            trained wide (as in DARTS).
        max_mmacs: instead of one width for all: every derived or random network is trained with as many channels (a multiple
            of 4) as this many million MACs allow, so that networks are compared at equal cost.
        augment: of the retraining. The search is never augmented, as in the paper.
        run_dir: the folder of run folders; `runs/` of the checkout by default.

    Raises:
        UnknownName: a mode or preset that there is not.
        TrainingError: both `derived_channels` and `max_mmacs`.
    """
    if derived_channels and max_mmacs:
        raise TrainingError(
            "derived_channels and max_mmacs both say how wide derived networks are. Give one of them."
        )
    if mode not in MODES:
        raise UnknownName("mode", mode, MODES)
    given = {
        "preset": preset,
        "search_epochs": search_epochs,
        "epochs": epochs,
        "batch_size": batch_size,
        "limit": limit,
    }
    chosen = {name: value if value is not None else MODES[mode][name] for name, value in given.items()}
    return Plan(
        mode=mode,
        source=source,
        data_dir=None if data_dir is None else str(data_dir),
        source_options=source_options,
        target=target,
        unlabelled=unlabelled,
        min_records=min_records,
        metadata=metadata or "none",
        bin_buckets=bin_buckets,
        split=split or "auto",
        image_size=image_size or sizes_of(chosen["preset"]).image_size,
        primitive_set=primitive_set,
        fusion=fusion,
        theta_data=theta_data,
        theta_learning_rate=theta_learning_rate,
        warmup_epochs=warmup_epochs,
        theta_batch_norm=theta_batch_norm,
        max_skips=max_skips,
        shared_theta=shared_theta,
        derived_channels=derived_channels,
        max_mmacs=max_mmacs,
        learning_rate=learning_rate,
        augment=augment,
        precision=precision,
        device=device,
        seed=seed,
        data_seed=data_seed,
        run_dir=str(places.runs(run_dir)),
        **chosen,
    )


# --- data, read once a process -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def _specimens(
    source: str,
    data_dir: str | None,
    options: str,
    target: str,
    unlabelled: str,
    min_records: int | None,
    image_size: int,
    limit: int | None,
    seed: int,
) -> SpecimenSet:
    return load_specimens(
        source,
        data_dir,
        target=target,
        unlabelled=unlabelled,
        min_records=min_records,
        image_size=image_size,
        limit=limit,
        seed=seed,
        cache_dir=places.cache(),
        **_named(options),
    )


def _named(options: str) -> dict[str, Any]:
    """ "images=false share=0.1 package=cropped" -> {"images": False, "share": 0.1, "package": "cropped"}."""
    named = {}
    for part in shlex.split(options):
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise SpecimenError(
                f"source_options={options!r}: {part!r} is not NAME=VALUE. Write options apart by blanks, as in "
                '"package=cropped_256 splits=train+val+test".'
            )
        try:
            named[name] = json.loads(value)  # numbers, true, false, null
        except json.JSONDecodeError:
            named[name] = value
    return named


@functools.lru_cache(maxsize=4)
def _encoding(plan: Plan) -> MetadataEncoding:
    return MetadataEncoding.fit(plan.splits().train, plan.metadata, plan.bin_buckets)


@functools.lru_cache(maxsize=4)
def _splits(plan: Plan) -> Splits:
    specimens = plan.specimens()
    specimens.require_trainable()
    scheme = plan.split
    if scheme == "auto":
        own = (
            plan.source == "folder"
            and "split" in specimens.records
            and specimens.records["split"].notna().any()
        )
        scheme = "official" if own else "paper"
    return specimens.split(scheme, plan.data_seed)
