"""A `Plan` is every choice of a run: collection, split, metadata, sizes, training, seed.

Each choice is one field with its type, default, help and range. `plan(mode, ...)` makes a `Plan`; the command line
(`-p NAME=VALUE`) and the configurations of training follow from the same fields. What is done with a plan is in `experiments`.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bionas.errors import TrainingError, UnknownName
from bionas.fusion import FUSIONS
from bionas.genotype import Genotype
from bionas.network import (
    PRESETS,
    THETA_STD,
    DerivedNetwork,
    MetadataNetwork,
    NetworkConfig,
    SearchNetwork,
)
from bionas.network import preset as sizes_of
from bionas.operators import PRIMITIVE_SETS
from bionas.specimens import SOURCES, SPLITS
from bionas.specimens.augmentation import AUGMENTATIONS
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import MetadataEncoding, named_fields
from bionas.specimens.streaming import IMAGE_STORE_CHOICES
from bionas.system import places
from bionas.training import data, versions
from bionas.training.choices import choice, declarations, default, parsed
from bionas.training.cost import cost
from bionas.training.loop import chosen_device
from bionas.training.maps import Maps
from bionas.training.recipe import (
    BALANCES,
    SCHEDULES,
    THETA_RATES,
    FitConfig,
    SearchConfig,
    ThetaSearch,
    Training,
)
from bionas.training.runs import Run
from bionas.training.stems import StemChoices

MODES: dict[str, dict[str, Any]] = {
    "smoke": {"preset": "tiny", "search_epochs": 2, "epochs": 2, "batch_size": 32, "limit": 240,
              "theta_learning_rate": "scaled"},
    "quick": {"preset": "quick", "search_epochs": 10, "epochs": 20, "batch_size": 64, "limit": None,
              "theta_learning_rate": "scaled"},
    "full": {"preset": "paper", "search_epochs": 50, "epochs": 100, "batch_size": "auto", "limit": None,
             "theta_learning_rate": "paper"},
}  # fmt: skip
"""What a mode stands for where a plan does not say otherwise. Results of `smoke` mean nothing: it shows that the code runs."""

FEW_PHOTOGRAPHS = 2000
SMALL_FOLDER: dict[str, Any] = {"epochs": 60, "augment": "flips_and_shifts"}
"""Defaults of mode `quick` for a folder of fewer photographs: with 360 of them in six classes, 20 epochs without
augmentation gave an accuracy of 30 % on new ones (and nearly 100 % in training), these gave 44 to 53 %."""

WIDTHS = range(4, 513, 4)
"""The channels that `max_mmacs` chooses from."""

LATER = ("balance",)
"""Choices that were added when there were runs: None, which changes nothing, leaves a run folder its name."""

SMALLEST_IMAGE = 8
"""Pixels; the presets reduce the side of an image by 4 or more."""


def _metadata_choice(name: str) -> None:
    """Raises UnknownName for metadata that are neither a preset, nor names of fields, nor "auto"."""
    if name != data.AUTO:
        named_fields(name)


def _split_choice(name: str) -> None:
    """Raises UnknownName for a scheme that does not exist; what follows a colon is the scheme's own."""
    if name != data.AUTO and name.partition(":")[0] not in SPLITS:
        raise UnknownName("split", name, [data.AUTO, *SPLITS])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(ThetaSearch, StemChoices, Training):
    """Every choice of a run.

    `seed` is that of initialisation, order and dropout. Collection and split are drawn with `data_seed`, so that runs
    of several seeds share their test specimens.

    Raises:
        ChoiceError, UnknownName: a value that a choice cannot take (`choices.Checked`).
        TrainingError: both `derived_channels` and `max_mmacs`.
    """

    mode: str = choice(
        "quick", "smoke (seconds, proves that it runs), quick (minutes) or full (paper scale)", known=MODES
    )
    source: str = choice("synthetic", "where specimens come from", known=SOURCES)
    data_dir: str | None = choice(None, "where the collection is, for every source but synthetic")
    source_options: str = choice(
        "", 'what else the source takes, as "package=cropped_256 splits=train+val+test"'
    )
    target: str = choice("order", "the column to predict")
    unlabelled: str = choice(
        "drop", "records without a label: drop, or class (a class of their own)", known=("drop", "class")
    )
    min_records: int | None = choice(
        None, "classes of fewer records become Other; None: the source's rule", at_least=0
    )
    metadata: str = choice(
        data.AUTO,
        "which columns go with the image: as_published, no_target, leak_free, none, or fields joined by +; auto: leak_free "
        "where the records hold any of it, else none",
        check=_metadata_choice,
    )
    bin_buckets: int = choice(4096, "size of the hash table of BINs", at_least=1)
    split: str = choice(
        data.AUTO,
        "paper, official, bin_disjoint, grouped:COLUMN, ...; auto: official where a folder has a column `split`, else paper",
        check=_split_choice,
    )
    preset: str = choice(None, "sizes of the network", known=PRESETS, by_mode=True)
    image_size: int = choice(
        None, "side of the images in pixels; None: the preset's", at_least=SMALLEST_IMAGE, by_mode=True
    )
    limit: int | None = choice(None, "draw that many specimens, stratified", at_least=1, by_mode=True)
    image_store: str = choice(
        "auto",
        "decoded: once, to a cache on disk; stream: in every epoch, without one (stream:fast: sooner, with slightly other "
        "pixels); auto: decoded where the cache fits on the disk",
        known=IMAGE_STORE_CHOICES,
    )
    primitive_set: str = choice(
        "full", "full (ten primitives), reduced (six) or conv_only (four)", known=PRIMITIVE_SETS
    )
    fusion: str = choice("concatenation", "how image and metadata features are joined", known=FUSIONS)
    dropout: float | None = choice(
        None, "in head and metadata encoder; None: the preset's 0.2. The paper names no rate", at_least=0
    )
    theta_learning_rate: float | str = choice(
        None,
        "Adam's, for theta: a number; paper (3e-4); scaled (where theta steps are few, the rate at which theta reach is that "
        "of one epoch at the paper's scale, 1.05); None: scaled in smoke and quick, paper in full",
        words=THETA_RATES, at_least=0, by_mode=True,
    )  # fmt: skip
    theta_init: str = choice(
        "sd", "theta ~ N(0, 1e-3): 1e-3 as standard deviation (sd) or as variance", known=THETA_STD
    )
    shared_theta: bool = choice(False, "one theta for all cells instead of one per cell")
    # Cells are often searched narrow and trained wide, as in DARTS.
    derived_channels: int | None = choice(
        None, "channels of derived networks; None: those of the search", at_least=1
    )
    max_mmacs: float | None = choice(
        None,
        "instead of one width: as many channels (a multiple of 4) as this many million MACs allow, so that networks are "
        "compared at equal cost",
        above=0,
    )
    search_epochs: int = choice(
        None, "of the search: passes over the training split", at_least=1, by_mode=True
    )
    epochs: int = choice(None, "of each training after the search", at_least=1, by_mode=True)
    batch_size: int | str = choice(
        None, "images per step; auto: the largest of 512 ... 32 that memory allows", words=("auto",), at_least=1, by_mode=True
    )  # fmt: skip
    learning_rate: float | None = choice(
        None, "peak of the retraining's schedule; None: 3e-3. The search keeps the paper's 1e-3", above=0
    )
    schedule: str = choice(
        "one_cycle", "of the retraining's rate; constant with learning_rate=1e-3 is the paper read literally", known=SCHEDULES
    )  # fmt: skip
    search_schedule: str = choice(
        "cosine", "of w's rate in the search; the paper names none", known=SCHEDULES
    )
    # The search is never augmented, as in the paper.
    augment: str = choice(
        None, "of the retraining; None: none, as in the paper (flips_and_shifts for a small folder of your own)",
        known=AUGMENTATIONS, by_mode=True,
    )  # fmt: skip
    label_smoothing: float | None = choice(
        None, "of the retraining; None: the paper's 0.1, which the search keeps", at_least=0
    )
    balance: str | None = choice(
        None,
        "for rare classes in the retraining: class_weights, resampling or logit_adjustment; None: nothing, as in the paper",
        known=BALANCES,
    )
    data_seed: int = choice(0, "of collection and split, and of random genotypes", at_least=0)
    run_dir: str = choice(None, "the folder of run folders; None: runs/", by_mode=True)

    def __post_init__(self) -> None:
        for name, (_, declared) in declarations(type(self)).items():
            if declared.by_mode and getattr(self, name) is None:
                object.__setattr__(self, name, self._by_mode(name))
        super().__post_init__()
        if self.derived_channels and self.max_mmacs:
            raise TrainingError(
                "derived_channels and max_mmacs both say how wide derived networks are. Give one of them."
            )

    def _by_mode(self, name: str) -> Any:
        """What None stands for, of the choices declared `by_mode`."""
        if self.mode not in MODES:
            raise UnknownName("mode", self.mode, MODES)
        if name == "image_size":
            return sizes_of(self.preset).image_size
        if name == "run_dir":
            return str(places.runs())
        if name in SMALL_FOLDER and self._is_small_folder():
            return SMALL_FOLDER[name]
        return "none" if name == "augment" else MODES[self.mode][name]

    def _is_small_folder(self) -> bool:
        return (
            self.mode == "quick"
            and self.source == "folder"
            and self.data_dir is not None
            and data.has_fewer_photographs(self.data_dir, FEW_PHOTOGRAPHS)
        )

    # --- data ---------------------------------------------------------------------------------------------------

    def specimens(self) -> SpecimenSet:
        """The whole collection, read once per process."""
        names = (
            "source",
            "data_dir",
            "source_options",
            "target",
            "unlabelled",
            "min_records",
            "image_size",
            "limit",
            "image_store",
        )
        return data.specimens(**{name: getattr(self, name) for name in names}, seed=self.data_seed)

    def splits(self) -> Splits:
        """Training, validation and test specimens.

        Raises:
            SpecimenError: a class too small to train on; the message says which and what to do.
        """
        return data.splits(self.specimens(), self.source, self.split, self.data_seed)

    def training_splits(self) -> Splits:
        """The same splits as networks are trained on them: with the cached maps of a pretrained stem for photographs.

        Raises:
            BaselineError: the stem's weights cannot be had.
        """
        if not self.on_maps:
            return self.splits()
        maps = Maps(self.published(), self.image_size, self.variants_kept(self.augment), self.augment)
        mapped = data.on_maps(self.specimens(), maps, chosen_device(self.device))
        return data.splits(mapped, self.source, self.split, self.data_seed)

    def encoding(self) -> MetadataEncoding:
        """The metadata encoding, its vocabularies from the training split alone."""
        return data.encoding(self.splits(), self.metadata, self.bin_buckets)

    # --- parts --------------------------------------------------------------------------------------------------

    def network(self) -> NetworkConfig:
        """The sizes of the supernet."""
        sizes = sizes_of(self.preset)
        return dataclasses.replace(
            sizes,
            image_size=self.image_size,
            shared_theta=self.shared_theta,
            stem=self.stem,
            dropout=sizes.dropout if self.dropout is None else self.dropout,
            theta_init=self.theta_init,
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
        return self.with_weights(
            SearchNetwork(self.network(), primitives=self.primitive_set, fusion=self.fusion, **self.inputs())
        )

    def derived(self, genotype: Genotype) -> DerivedNetwork:
        """The network of a genotype, freshly initialised from the plan's seed.

        Raises:
            GenotypeError: the genotype is of another primitive set or depth than the plan.
        """
        genotype.require(self.network().reductions, self.primitive_set)
        torch.manual_seed(self.seed)
        sizes = self.derived_network(genotype)
        return self.with_weights(DerivedNetwork(genotype, sizes, fusion=self.fusion, **self.inputs()))

    def metadata_network(self) -> MetadataNetwork:
        """The metadata encoder and head alone, freshly initialised from the plan's seed."""
        torch.manual_seed(self.seed)
        return MetadataNetwork(self.network(), **self.inputs())

    def search_config(self) -> SearchConfig:
        """How the supernet is searched."""
        # These choices of a plan are those of the retraining; the search keeps the paper's.
        return self._config(
            SearchConfig,
            epochs=self.search_epochs,
            learning_rate=None,
            augment=None,
            label_smoothing=None,
            balance=None,
            schedule=self.search_schedule,
        )

    def fit_config(self) -> FitConfig:
        """How derived networks and baselines are trained."""
        return self._config(FitConfig)

    def _config(self, cls: type[FitConfig], **changes: Any) -> Any:
        """`cls` with the plan's choices of the same name; a None leaves the default of `cls`."""
        own = {name: getattr(self, name) for name in declarations(cls) if hasattr(self, name)}
        return cls(**{name: value for name, value in (own | changes).items() if value is not None})

    # --- places -------------------------------------------------------------------------------------------------

    def folder(self) -> Path:
        """Where the runs of this plan are."""
        return Path(self.run_dir) / f"{self.source}-{self.mode}" / f"seed{self.seed}"

    def describe(self, uses: tuple[str, ...] = versions.TRAINED, **more: Any) -> dict[str, Any]:
        """What a run's config.json says besides the training configuration.

        Args:
            uses: the subsystems whose code decides the run's numbers (`versions`).
            more: what else makes it this run.
        """
        of_data = "source source_options target unlabelled min_records bin_buckets limit data_seed".split()
        return {
            **{name: getattr(self, name) for name in of_data},
            "metadata": self.encoding().preset,
            "split": data.scheme(self.specimens(), self.source, self.split),
            "mode": self.mode,
            "network": dataclasses.asdict(self.network()),
            "fusion": self.fusion,
            "data_fingerprint": self.specimens().fingerprint,
            "versions": versions.of(*uses, *(("stems",) if self.stage else ())),
            **self.about_stem(self.augment),
            **more,
        }

    def run(self, role: str, config: FitConfig, description: dict[str, Any]) -> Run:
        """The run folder of a role (search, derived, ...): its name ends in a hash of all that makes it this run."""
        choices = dataclasses.asdict(config)
        for name in LATER:
            if choices[name] is None:
                del choices[name]
        identity = json.dumps([choices, description], sort_keys=True)
        return Run(self.folder() / f"{role}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}")


def plan(mode: str = "quick", **choices: Any) -> Plan:
    """Every choice of a run: the fields of `Plan` by name. None stands for the default, the mode's or the source's.

    Args:
        mode: smoke (seconds, proves that it runs), quick (minutes, the embedded default), full (paper scale).
        choices: see `Plan`; `help(plan)` lists them.

    Raises:
        UnknownName: no such choice, or a name that it cannot take; the message lists the nearest.
        ChoiceError: a value of another type, or out of range.
        TrainingError: both `derived_channels` and `max_mmacs`.
    """
    known = declarations(Plan)
    for name in choices:
        if name not in known:
            raise UnknownName("parameter", name, known)
    given = {name: value for name, value in choices.items() if value is not None}
    if "run_dir" in given:
        given["run_dir"] = str(places.runs(given["run_dir"]))
    return Plan(mode=mode, **given)


def from_settings(settings: Sequence[str], **defaults: Any) -> Plan:
    """The plan of `-p NAME=VALUE` settings as typed; `defaults` are the command's own.

    Raises:
        UnknownName, ChoiceError: see `choices.parsed`.
    """
    return plan(**defaults | parsed(settings, Plan))


# What editors and `help` show of `plan` are the fields of `Plan`.
plan.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typeshed does not know it on functions
    [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if name == "mode" else inspect.Parameter.KEYWORD_ONLY,
            default=default(Plan, name),
        )
        for name in sorted(declarations(Plan), key=lambda name: name != "mode")
    ],
    return_annotation=Plan,
)
