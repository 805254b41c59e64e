"""Cells on a pretrained stem: what they are worth on a laboratory's photographs, against accuracy, cost and time.

    python bionas/studies/stems.py --data ../shared/data        stems_field_pests(_runs).csv

Nine classes of pests, divided as `bionas train` divides them. For stages of EfficientNet-Lite0 with published weights: a
linear head on the average of the maps; cells drawn by hand, at random, and found by successive halving, trained on
cached maps; the best of those fine-tuned with the stem. The whole network, frozen and fine-tuned, is read from
`lab_kinds_runs.csv`, which `studies/laboratory.py` makes with the same divisions. Each row is kept under `runs/stems/` and
is read again where it is there.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import io
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor, nn

from bionas.genotype import Genotype
from bionas.lab.finetune import finetune
from bionas.lab.fusing import folded
from bionas.lab.groups import divide
from bionas.lab.head import fit_head
from bionas.lab.kinds import network_features, side_table, take_over
from bionas.lab.networks import Classifier, build, describe_derived
from bionas.lab.photographs import BATCH
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.splits import Sides
from bionas.strategies import STRATEGIES
from bionas.strategies.evaluators import PlanEvaluator, balanced_accuracy
from bionas.studies import report
from bionas.studies.laboratory import SOURCE, arthropods
from bionas.studies.searches.study import hand_drawn
from bionas.system import files, places
from bionas.system.progress import told_to
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.cost import cost
from bionas.training.runs import commit
from bionas.training.stems import Stage, untrained
from bionas.training.weights import DEFAULT_ARCHITECTURE

TARGET, MIN_PER_CLASS, SIZE = "class_as_given", 10, 224
STAGES = (3, 4, 5, 6)
"""Stages whose averaged maps get a linear head."""

EPOCHS, SEARCHED_FOR = 8, 4
"""Epochs of each training, and the search's budget in such trainings."""

CHOICES = {"preset": "on_stem", "batch_size": 32, "augment": "none", "learning_rate": 3e-3}
TIMED = 20
"""Passes of one photograph that are timed; the fastest half of them counts."""

LINEAR, HAND, RANDOM, SEARCHED, TUNED = (
    "linear head on averaged maps",
    "hand-drawn cells",
    "random cells",
    "searched cells",
    "searched cells, fine-tuned with the stem",
)
BACKBONES = {
    "pretrained, frozen": "whole network, frozen",
    "pretrained, fine-tuned": "whole network, fine-tuned",
}
"""Kinds of model in lab_kinds_runs.csv, and what they are here."""


@dataclasses.dataclass(frozen=True)
class Division:
    """The photographs with one division, and what cells are trained on.

    Attributes:
        folder, specimens: the photographs.
        sides: positions of training, validation and test photographs; `table` lists them for a `Plan`.
        seed: of the division, of training and of search.
        epochs: of each training.
        architecture, weights: of the stems.
    """

    folder: Path
    specimens: SpecimenSet
    sides: Sides
    table: Path
    seed: int
    epochs: int = EPOCHS
    architecture: str = DEFAULT_ARCHITECTURE
    weights: str | None = None

    @property
    def size(self) -> int:
        """Side of a photograph in pixels."""
        return self.specimens.require_images().size

    def plan(self, stage: int, **choices: Any) -> Plan:
        """Training on the maps of a stage."""
        return experiments.plan(
            "quick",
            source="folder",
            data_dir=self.folder,
            source_options=f"labels={shlex.quote(self.table.as_posix())} fit=crop",
            target="lab_class",
            min_records=1,
            metadata="none",
            split="official",
            image_size=self.size,
            stem=f"timm:{self.architecture}:{stage}",
            weights=self.weights,
            epochs=self.epochs,
            seed=self.seed,
            **({"run_dir": places.runs() / "stems" / "runs"} | CHOICES | choices),
        )


def division(data: Path, seed: int) -> Division:
    """The arthropods of `field_pests`, divided by a seed as `bionas train --seed` divides them."""
    folder = arthropods(data)
    specimens = load_specimens(
        "folder",
        folder,
        target=TARGET,
        min_records=MIN_PER_CLASS,
        image_size=SIZE,
        fit="crop",
        cache_dir=places.cache(),
    )
    sides, _ = divide(specimens, None, seed)
    work = places.runs() / "stems" / f"seed{seed}"
    return Division(folder, specimens, sides, side_table(specimens, sides, work), seed)


# --- rows ------------------------------------------------------------------------------------------------------------


def linear_row(at: Division, stage: int) -> dict[str, Any]:
    """A logistic regression on the averages of a stage's maps, as the laboratory fits it on whole networks."""
    train, val, test = at.plan(stage).training_splits()
    start = time.process_time()
    features = [_averages(side) for side in (train, val, test)]
    n_classes = len(train.class_names)
    head = fit_head(features[0], train.labels, features[1], val.labels, n_classes)
    network = nn.Sequential(
        untrained(Stage(at.architecture, stage)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features[0].shape[1], n_classes),
    )
    return _scored(test.labels, head.logits(features[2]).argmax(axis=1)) | {
        "core_minutes": (time.process_time() - start) / 60,
        **weighed(network, at.size),
    }


def _averages(side: SpecimenSet) -> np.ndarray:
    """(N, M) float32: the maps of a side, each averaged over its places."""
    images, parts = side.require_images(), []
    for start in range(0, len(side), BATCH):
        maps = images.pixels(np.arange(start, min(start + BATCH, len(side))))
        parts.append(maps.astype(np.float32).mean(axis=(1, 2)))
    return np.concatenate(parts)


def cells_row(at: Division, stage: int, genotype_of: Callable[[PlanEvaluator], Genotype]) -> dict[str, Any]:
    """A genotype's network trained on the maps of a stage, and the test side read once."""
    start = time.process_time()
    network, genotype, val_accuracy = cells(at, stage, genotype_of)
    return _scored(at.specimens.labels[at.sides[2]], _predicted(network, at)) | {
        "val_accuracy": val_accuracy,
        "core_minutes": (time.process_time() - start) / 60,
        **weighed(network, at.size),
        "genotype": genotype.key(),
    }


def cells(
    at: Division, stage: int, genotype_of: Callable[[PlanEvaluator], Genotype]
) -> tuple[Classifier, Genotype, float]:
    """A genotype trained on the maps of a stage: the network from the photograph to the logits, stem included; the
    genotype; accuracy on validation."""
    plan = at.plan(stage)
    evaluate = PlanEvaluator(plan, at.epochs, at_target=True, keep_weights=True)
    genotype = evaluate.space().canonical(genotype_of(evaluate))
    score = evaluate(genotype)
    architecture = describe_derived(genotype, dataclasses.asdict(plan.derived_network(genotype)))
    names = list(plan.specimens().class_names)
    network = build(architecture, len(names))
    take_over(network, evaluate.child_run(genotype).weights(), names, names)
    return network.requires_grad_(False).eval(), genotype, score.value


def by_hand(evaluate: PlanEvaluator) -> Genotype:
    """The cell that the study of searches compares with, in every place."""
    return hand_drawn(evaluate.space())


def at_random(at: Division) -> Callable[[PlanEvaluator], Genotype]:
    """The random genotype number `at.seed` of the space."""
    return lambda evaluate: experiments.random_genotype(evaluate.given, at.seed)


def searched(at: Division, stage: int) -> Callable[[PlanEvaluator], Genotype]:
    """Successive halving within `SEARCHED_FOR` trainings."""

    def search(evaluate: PlanEvaluator) -> Genotype:
        folder = places.runs() / "stems" / f"search-{stage}-{at.seed}"
        budget = SEARCHED_FOR * evaluate.images
        with told_to(io.StringIO()):
            found = STRATEGIES["halving"](evaluate.space(), evaluate, budget, at.seed, folder=folder)
        return found.genotype

    return search


def tuned_row(at: Division, stage: int, epochs: float) -> dict[str, Any]:
    """What the search found, fine-tuned with the stem on photographs; kept whatever validation says."""
    start = time.process_time()
    network, genotype, _ = cells(at, stage, searched(at, stage))
    checkpoint = places.runs() / "stems" / f"tuned-{stage}-{at.seed}.pt"
    finetune(network, at.specimens.subset(at.sides[0]), epochs=epochs, seed=at.seed, checkpoint=checkpoint)
    return _scored(at.specimens.labels[at.sides[2]], _predicted(network, at)) | {
        "core_minutes": (time.process_time() - start) / 60,
        **weighed(network, at.size),
        "genotype": genotype.key(),
    }


def _predicted(network: Classifier, at: Division) -> np.ndarray:
    """Classes of the test photographs, from the photographs themselves."""
    test = at.specimens.require_images().subset(at.sides[2])
    features = torch.from_numpy(network_features(network, test))
    with torch.inference_mode():
        return network.head(features).argmax(dim=1).numpy()


def backbone_rows(seeds: Iterable[int]) -> list[dict[str, Any]]:
    """The whole network, from the laboratory's table; what it costs is counted and timed here, like the others."""
    path = places.root() / "data" / "results" / "lab_kinds_runs.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path)
    table = table[(table["target"] == TARGET) & table["model"].isin(BACKBONES) & table["seed"].isin(seeds)]
    of_classes = functools.cache(_backbone_costs)
    return [
        {
            "model": BACKBONES[row["model"]],
            "seed": row["seed"],
            "accuracy": row["accuracy"],
            "balanced_accuracy": row["balanced_accuracy"],
            "n_test": row["n_test"],
            **of_classes(int(row["classes"])),
            "code": row["code"],
        }
        for row in table.to_dict("records")
    ]


def _backbone_costs(n_classes: int) -> dict[str, float]:
    return weighed(timm.create_model(DEFAULT_ARCHITECTURE, num_classes=n_classes), SIZE)


def majority_row(at: Division) -> dict[str, Any]:
    """The largest class of the training side, for every test photograph."""
    labels, (train, _, test) = at.specimens.labels, at.sides
    largest = np.bincount(labels[train]).argmax()
    return _scored(labels[test], np.full(len(test), largest))


def _scored(labels: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": float((labels == predicted).mean()),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "n_test": len(labels),
    }


# --- what it costs ---------------------------------------------------------------------------------------------------


def weighed(network: nn.Module, size: int) -> dict[str, float]:
    """MACs, MB of the weights, and milliseconds of one photograph from a decoded tensor, on one core."""
    counted = cost(network, size, image_only=True)
    return {
        "mmacs": counted["macs"] / 1e6,
        "megabytes": counted["weights_mb"],
        "milliseconds": milliseconds(network, size),
    }


@torch.inference_mode()
def milliseconds(network: nn.Module, size: int) -> float:
    """Processor time of one photograph (1, 3, S, S), with normalisation folded into the convolutions; the mean over the
    faster half of the passes, since other work on the machine slows the rest."""
    fast = folded(copy.deepcopy(network).requires_grad_(False).eval(), size)
    photograph: Tensor = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(TIMED + 2):
        start = time.process_time()
        fast(photograph)
        seconds.append(time.process_time() - start)
    return 1000 * float(np.mean(sorted(seconds[2:])[: TIMED // 2]))


# --- the study -------------------------------------------------------------------------------------------------------


def rows(
    data: Path, seeds: Sequence[int], cells_on: Sequence[int], tuned: Sequence[int], epochs: float
) -> list[dict[str, Any]]:
    """Every row, each made once.

    Args:
        cells_on: stages on whose maps cells are trained.
        tuned: seeds whose searched cells are fine-tuned with the stem.
        epochs: of that fine-tuning.
    """
    found: list[dict[str, Any]] = []

    def made(model: str, stage: int | None, at: Division, make: Callable[[], dict[str, Any]]) -> None:
        slug = f"{model.replace(',', '').replace(' ', '-')}-{stage or 0}-{at.seed}"
        path = places.runs() / "stems" / "rows" / f"{slug}.json"
        if not path.exists():
            files.write_json(
                path, {"model": model, "stage": stage, "seed": at.seed, **make(), "code": commit()}
            )
        found.append(files.read_json(path))
        print(found[-1], flush=True)

    of_seed = {seed: division(data, seed) for seed in seeds}
    for at in of_seed.values():
        made("majority class", None, at, functools.partial(majority_row, at))
    for stage in cells_on:
        for at in of_seed.values():
            made(LINEAR, stage, at, functools.partial(linear_row, at, stage))
            made(HAND, stage, at, functools.partial(cells_row, at, stage, by_hand))
            made(RANDOM, stage, at, functools.partial(cells_row, at, stage, at_random(at)))
            made(SEARCHED, stage, at, functools.partial(cells_row, at, stage, searched(at, stage)))
    for stage in (stage for stage in STAGES if stage not in cells_on):
        for at in of_seed.values():
            made(LINEAR, stage, at, functools.partial(linear_row, at, stage))
    best = max(cells_on, key=lambda stage: _mean(found, SEARCHED, stage))
    for seed in tuned:
        made(TUNED, best, of_seed[seed], functools.partial(tuned_row, of_seed[seed], best, epochs))
    return [*found, *backbone_rows(seeds)]


def _mean(found: list[dict[str, Any]], model: str, stage: int) -> float:
    """Mean accuracy on validation, by which the stage for fine-tuning is chosen."""
    return float(np.mean([r["val_accuracy"] for r in found if r["model"] == model and r["stage"] == stage]))


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per model and stage: means over seeds, with the spread of the accuracies."""
    grouped = runs.groupby(["model", "stage"], sort=False, dropna=False)
    numbers = [
        "accuracy",
        "balanced_accuracy",
        "mmacs",
        "milliseconds",
        "megabytes",
        "core_minutes",
        "n_test",
    ]
    table = grouped[numbers].mean()
    for name in ("accuracy", "balanced_accuracy"):
        table.insert(table.columns.get_loc(name) + 1, f"{name}_sd", grouped[name].std(ddof=1))
    table.insert(0, "n_seeds", grouped.size())
    return table.reset_index()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(prog="python bionas/studies/stems.py", description=main.__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="the folder of the collections"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--stages", type=int, nargs="+", default=[6], choices=STAGES, help="on whose maps cells are trained"
    )
    parser.add_argument(
        "--tuned", type=int, nargs="*", default=[0], help="seeds that are fine-tuned with the stem"
    )
    parser.add_argument("--tuning-epochs", type=float, default=2.0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    runs = pd.DataFrame(
        rows(options.data, options.seeds, options.stages, options.tuned, options.tuning_epochs)
    )
    command = shlex.join(["python", "bionas/studies/stems.py", *sys.argv[1:]])
    tables = {
        "": summary(runs).assign(source=SOURCE, command=command, code=commit()),
        "_runs": runs.assign(source=SOURCE, command=command),
    }
    report.write("stems_field_pests", {ending: table.round(4) for ending, table in tables.items()})


if __name__ == "__main__":
    main()
