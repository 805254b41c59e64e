"""What a laboratory's model is worth: figures on real photographs, by the same code that `bionas train` runs.

    python bionas/studies/laboratory.py kinds        --data ../shared/data   lab_kinds(_runs).csv
    python bionas/studies/laboratory.py decisions    --data ../shared/data   lab_decisions.csv
    python bionas/studies/laboratory.py repeated     --data ../shared/data   lab_repeated.csv
    python bionas/studies/laboratory.py metadata     --data ../shared/data   lab_metadata.csv

`kinds` compares kinds of model on the pests, `decisions` says what roll-up and refusal do with them, `repeated` what a
random division does where specimens were photographed repeatedly, `metadata` what columns of the table add. Each
training is kept under `runs/laboratory/` and is read again where it is there.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from bionas import lab
from bionas.lab.calibration import UNSURE, distances
from bionas.lab.evaluation import REFUSALS, wilson
from bionas.lab.model import Model
from bionas.studies import report
from bionas.system import files, places
from bionas.training.runs import commit

SEEDS = (0, 1, 2)
TIMED = 32
"""Photographs that the time per photograph is measured on."""

SOURCE = "real photographs, verification only, not redistributed"

DESCRIBING = ("sex", "wing", "magnification")
"""Columns of the bee wings that describe a photograph and come from no identification."""

PESTS, WINGS, LARVAE, WELLS = "field_pests", "bee_wings", "larvae_crops", "bioscan_poor_quality"


class Kind(NamedTuple):
    """One row of the comparison: options of `lab.train`."""

    name: str
    options: dict[str, Any]


KINDS = (
    Kind("ResNet-18 from scratch", {"model_kind": "resnet18", "epochs": (0, 8)}),
    Kind("searched from scratch", {"model_kind": "searched:conv", "epochs": (24, 8)}),
    Kind("searched", {"model_kind": "searched"}),
    Kind("pretrained, frozen", {"model_kind": "pretrained"}),
    Kind("pretrained, fine-tuned", {"model_kind": "pretrained", "epochs": 2.0}),
)


def trained(data: Path, folder: str, name: str, seed: int, **options: Any) -> Model:
    """The model of a training, read where it was made before."""
    out = places.runs() / "laboratory" / f"{folder}-{name}-seed{seed}"
    if (out / "model.json").exists():
        return lab.load(out)
    return lab.train(
        data / folder, out, seed=seed, say=lambda line: print(f"  {line}", flush=True), **options
    )


def kinds(data: Path, seeds: Sequence[int], targets: Sequence[str], names: Sequence[str]) -> None:
    """Kinds of model on the photographs of pests, by order and by the nine classes as given."""
    rows = []
    for target in targets:
        pests = arthropods(data)
        for kind in KINDS:
            if names and kind.name not in names:
                continue
            for seed in seeds:
                slug = f"{target}-{kind.name.replace(', ', '-').replace(' ', '-')}"
                for features in places.cache().glob("features-*.npy"):
                    features.unlink()  # every training pays for its features, so that minutes can be compared
                model = trained(pests.parent, pests.name, slug, seed, rank=target, **kind.options)
                rows.append(_kind_row(target, kind.name, seed, model, pests))
                print(rows[-1], flush=True)
    runs = pd.DataFrame(rows)
    majority = runs.groupby(["target", "seed"], sort=False).first().reset_index()
    majority = majority.assign(
        model="majority class", accuracy=majority["majority"], balanced_accuracy=1 / majority["classes"]
    )[["target", "model", "seed", "n_test", "classes", "accuracy", "balanced_accuracy"]]
    runs = pd.concat([majority, runs.drop(columns="majority")], ignore_index=True)
    _write("lab_kinds_runs", runs)
    _write("lab_kinds", _summary(runs, ["target", "model"]))


def _kind_row(target: str, name: str, seed: int, model: Model, pests: Path) -> dict[str, Any]:
    test, done = model.description["test"], model.description["training"]
    low, high = test["interval"]
    size = sum(p.numel() * p.element_size() for p in model.network.parameters()) / 1e6
    return {
        "target": target,
        "model": name,
        "seed": seed,
        "n_test": test["n"],
        "classes": len(model.classes),
        "accuracy": test["accuracy"],
        "low": low,
        "high": high,
        "balanced_accuracy": test["balanced_accuracy"],
        "order_accuracy": test["ranks"].get("order", test["accuracy"]),
        "ece_before": test["ece_before"],
        "ece_after": test["ece_after"],
        "minutes": done["minutes"],
        "processor_minutes": done["processor_minutes"],
        "megabytes": round(size, 1),
        "milliseconds": _milliseconds(model, pests),
        "epochs": done.get("finetuned_epochs", done.get("epochs", 0)),
        "kept": done.get("finetuned_kept", ""),
        "majority": test["majority_accuracy"],
    }


def _milliseconds(model: Model, folder: Path) -> float:
    """Milliseconds of processor time per photograph, from the file to the answer."""
    photographs = sorted((folder / "images").iterdir())[:TIMED]
    model.predict(photographs[:8], workers=1)
    before = time.process_time()
    model.predict(photographs, workers=1)
    return round(1000 * (time.process_time() - before) / len(photographs), 1)


def decisions(data: Path, seeds: Sequence[int], targets: Sequence[str], names: Sequence[str]) -> None:
    """Wrong and decided shares by error rate; slugs, worms, snails and empty wells refused by share of arthropods refused."""
    wells = pd.read_csv(data / WELLS / "labels.csv")
    wells = wells[wells["quality"].str.startswith("empty")]["file"]
    others = pd.read_csv(data / PESTS / "labels.csv")
    others = others[others["arthropod"] == 0]["file"]
    rows = []
    for target in targets:
        pests = arthropods(data)
        for kind in KINDS:
            if names and kind.name not in names:
                continue
            for seed in seeds:
                slug = f"{target}-{kind.name.replace(', ', '-').replace(' ', '-')}"
                model = trained(pests.parent, pests.name, slug, seed, rank=target, **kind.options)
                far = {
                    "slugs, worms and snails": _distances(model, [data / PESTS / name for name in others]),
                    "empty wells": _distances(model, [data / WELLS / name for name in wells]),
                }
                rows += _decision_rows(target, kind.name, seed, model, far)
    _write("lab_decisions", pd.DataFrame(rows))


def _decision_rows(
    target: str, name: str, seed: int, model: Model, far: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    about = {"target": target, "model": name, "seed": seed}
    rows = []
    for found in model.description["test"]["curve"]:
        low, high = found["wrong_interval"]
        rows.append(
            {
                **about,
                "what": "error rate",
                "asked": found["error_rate"],
                "n": found["n"],
                "decided": found["decided"],
            }
            | {"wrong": found["wrong"], "low": low, "high": high, "refused": found["refused"]}
            | {"unsure": found[UNSURE], "coverage": found["coverage"], "set_size": found["set_size"]}
        )
    for share in REFUSALS:
        limit = float(np.quantile(model.calibration.distances, 1 - share))
        held = model.description["test"]["refusals"][f"{share:g}"]
        for what, distance in {"arthropods (test)": None, **far}.items():
            n = model.description["test"]["n"] if distance is None else len(distance)
            refused = held if distance is None else float((distance > limit).mean())
            low, high = wilson(round(refused * n), n)
            rows.append(
                {
                    **about,
                    "what": f"refused: {what}",
                    "asked": share,
                    "n": n,
                    "refused": refused,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def _distances(model: Model, photographs: list[Path]) -> np.ndarray:
    """Distances of photographs that the model must not know, kept beside it."""
    return np.concatenate([distances(one.features, model.neighbours) for one in model.scored(photographs)])


def repeated(data: Path, seeds: Sequence[int], targets: Sequence[str], names: Sequence[str]) -> None:
    """Bee wings by species and larvae by order: whole specimens or blocks apart, against a random division."""
    rows = []
    for folder, target, group in ((WINGS, "species", "specimen"), (LARVAE, "order", "block")):
        for column in (None, group):
            for seed in seeds:
                slug = f"{target}-{'random' if column is None else f'by-{column}'}"
                model = trained(data, folder, slug, seed, rank=target, group=column, min_per_class=1)
                test = model.description["test"]
                low, high = test["interval"]
                rows.append(
                    {"collection": folder, "target": target, "division": column or "random", "seed": seed}
                    | {"n_test": test["n"], "accuracy": test["accuracy"], "low": low, "high": high}
                    | {"balanced_accuracy": test["balanced_accuracy"], "majority": test["majority_accuracy"]}
                    | {"warnings": " | ".join(model.description["warnings"])}
                )
                print(rows[-1], flush=True)
    _write("lab_repeated", pd.DataFrame(rows))


def metadata(data: Path, seeds: Sequence[int], targets: Sequence[str], names: Sequence[str]) -> None:
    """Bee wings by species, specimens apart: the photographs alone, and with the columns of the table that describe them."""
    rows = []
    for seed in seeds:
        model = trained(
            data, WINGS, "species-with-metadata", seed,
            rank="species", group="specimen", min_per_class=1, metadata=",".join(DESCRIBING),
        )  # fmt: skip
        about = {"collection": WINGS, "target": "species", "division": "specimen"}
        described = model.description["metadata"]
        test = model.description["test"]
        for what, found in (("none", described["photographs_alone"]), (",".join(DESCRIBING), test)):
            low, high = found["interval"]
            rows.append(
                {**about, "metadata": what, "seed": seed, "n_test": test["n"]}
                | {"accuracy": found["accuracy"], "low": low, "high": high}
                | {"balanced_accuracy": found["balanced_accuracy"], "ece": found["ece_after"]}
                | {"decided": found["decisions"]["decided"], "wrong": found["decisions"]["wrong"]}
                | {
                    "majority": test["majority_accuracy"],
                    "warnings": " | ".join(model.description["warnings"]),
                }
            )
            print(rows[-1], flush=True)
    _write("lab_metadata", pd.DataFrame(rows))


STUDIES: dict[str, Callable[..., None]] = {
    "kinds": kinds,
    "decisions": decisions,
    "repeated": repeated,
    "metadata": metadata,
}


def arthropods(data: Path) -> Path:
    """A folder with the arthropods alone: links to the photographs and a table of those rows."""
    folder = places.runs() / "laboratory" / "pests"
    table = pd.read_csv(data / PESTS / "labels.csv")
    table = table[table["arthropod"] == 1].drop(columns=["arthropod", "family", "stage"])
    files.write_csv(folder / "labels.csv", table)
    if not (folder / "images").exists():
        try:
            (folder / "images").symlink_to((data / PESTS / "images").resolve(), target_is_directory=True)
        except OSError:  # no links on this system
            shutil.copytree(data / PESTS / "images", folder / "images")
    return folder


def _summary(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    numbers = [name for name in runs.select_dtypes("number").columns if name not in ("seed", "low", "high")]
    grouped = runs.groupby(by, sort=False)
    table = grouped[numbers].mean().round(4)
    for name in ("accuracy", "balanced_accuracy"):
        table[f"{name}_sd"] = grouped[name].std(ddof=1).round(4)
    table.insert(0, "n_seeds", runs.groupby(by, sort=False).size())
    return table.reset_index()


def _write(name: str, table: pd.DataFrame) -> None:
    command = "python bionas/studies/laboratory.py " + shlex.join(sys.argv[1:])
    report.write(name, {"": table.assign(source=SOURCE, code=commit(), command=command).round(4)})


def main(argv: Sequence[str] | None = None) -> None:
    """Run one study."""
    parser = argparse.ArgumentParser(prog="python bionas/studies/laboratory.py", description=main.__doc__)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="the folder of the collections"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument(
        "--targets", nargs="+", default=["order", "class_as_given"], help="columns of the pests"
    )
    parser.add_argument("--kinds", nargs="+", default=[], help="kinds of model, all by default")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    STUDIES[options.study](options.data, options.seeds, options.targets, options.kinds)


if __name__ == "__main__":
    main()
