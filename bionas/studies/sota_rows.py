"""What Tables II, III and V compare, as rows: the printed figures, and ours from the files of `data/results/`.

    paper("II") -> the printed table        measured() -> one row per network and protocol

`sota_tables` arranges them. Nothing is trained and nothing is counted here; a file that appears in `data/results/` is read
the next time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import pandas as pd

from bionas.errors import UnknownName
from bionas.studies import published, results
from bionas.studies.backbones import find, slug
from bionas.studies.report import MAJORITY, METRICS

OURS = "BioAutoML-NAS"
PRINTED = f"Ours ({OURS})"
"""Its name in the paper's tables."""

TABLES = {"II": "table2_transfer_learning", "III": "table3_transformers", "V": "table5_automl_nas"}
DATASETS = {"BIOSCAN-5M": "bioscan5m", "Insects-1M": "insects1m"}
"""The paper's two data sets, and the prefixes of their columns."""

EMBEDDED, PHOTOGRAPHS = "embedded specimens (synthetic)", "field photographs"
"""Our two collections, as columns and captions name them."""

IMAGE, BOTH, RECORDS = "image", "image+metadata", "metadata"
"""What a network saw."""

PROTOCOL = ("collection", "inputs", "augment", "pretrained", "frozen", "budget_minutes")
"""What two rows must share to stand in one column; `budget_minutes` is empty where the budget is in images."""

SPENT = ("mmacs", "parameters", "minutes", "search_minutes", "epochs", "images_seen")
PROVENANCE = ("note", "source", "code", "command", "file")
COLUMNS = (
    "model",
    *PROTOCOL,
    "n_seeds",
    *(f"{m}_{part}" for m in METRICS for part in ("mean", "sd")),
    *SPENT,
    *PROVENANCE,
)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some files of `data/results/` and how they come about.

    Attributes:
        file: their name without `.csv`. A part of backbones also has the files that continue its name with an underscore
            (three seeds of some, one of the rest), except tables of runs.
        holds: its content in words.
        collection, inputs: of its rows, where they do not say so themselves.
        names: its rows that are used beside the majority class -> their names in the paper; None for all, unchanged.
    """

    file: str
    holds: str
    collection: str
    inputs: str
    names: Mapping[str, str] | None = None

    @property
    def command(self) -> str:
        """The command that makes it."""
        return results.command(self.file)


_E009 = {"E009": OURS}
_SPINE = {"derived": OURS, "resnet18": "ResNet-18"}  # torchvision's: the same layers, other initial weights

PARTS = (
    Part("spine_field_orders", "BioAutoML-NAS and ResNet-18, images alone", PHOTOGRAPHS, IMAGE, _SPINE),
    Part("ablation_synthetic", "BioAutoML-NAS with metadata: row E009 of Table I", EMBEDDED, BOTH, _E009),
    Part("image_alone_synthetic", "row E009 of Table I without metadata", EMBEDDED, IMAGE, _E009),
    Part("metadata_alone_synthetic", "the metadata encoder without images", EMBEDDED, RECORDS),
    Part("backbones_synthetic", "backbones of Tables II and III", EMBEDDED, IMAGE),
    Part("backbones_field_orders", "backbones of Tables II and III", PHOTOGRAPHS, IMAGE),
    Part("automl_synthetic", "the systems of Table V", EMBEDDED, BOTH),
)


# --- published ---------------------------------------------------------------------------------------------------


def key(name: str) -> str:
    """What is the same in the paper's name of a model and in ours: "Optuna (HPO for CNN)" -> "optuna"."""
    return slug(re.sub(r"\s*\(.*\)", "", name)) or slug(name)


def paper(number: str) -> pd.DataFrame:
    """A printed table: model, table, and accuracy, precision, recall, f1 (percent) of each data set of `DATASETS`.

    Raises:
        UnknownName: not one of `TABLES`.
    """
    if number not in TABLES:
        raise UnknownName("table of scores", number, TABLES)
    frame = published.table(TABLES[number]).drop(columns="reference")
    return frame.assign(model=frame["model"].replace({PRINTED: OURS}), table=number)


def published_models() -> pd.DataFrame:
    """Every model of Tables II, III and V once, the proposed one last, and what an image costs it.

    Beside the columns of `paper`: gmacs, parameters and px, counted at the native size for the backbones
    (`data/results/backbones_at_rest.csv`), as printed in Table I for the proposed model (FLOPs read as MACs, MB as fp32
    weights), and empty for the systems, of which the paper gives none.
    """
    frame = pd.concat([paper(number) for number in TABLES], ignore_index=True)
    frame.loc[frame["model"] == OURS, "table"] = "I"
    frame = pd.concat(
        [frame[frame["model"] != OURS], frame[frame["model"] == OURS].head(1)], ignore_index=True
    )
    rest = at_rest().rename(columns={"native": "px"})[["model", "gmacs", "parameters", "px"]]
    frame = frame.merge(rest, on="model", how="left")
    printed = published.table("table1_ablation").set_index("exp_id").loc["E009"]
    cost = {"gmacs": printed["gflops"], "parameters": printed["memory_mb"] * 2**20 / 4}
    frame.loc[frame["model"] == OURS, list(cost)] = list(cost.values())
    return frame


def under_majority() -> pd.DataFrame:
    """The published backbones whose BIOSCAN-5M accuracy is below always naming the commonest order, lowest first."""
    frame = published_models().query("table in ('II', 'III')")
    below = frame[frame["bioscan5m_accuracy"] < published.commonest_order()[1]]
    return below.sort_values("bioscan5m_accuracy")[["model", "table", "bioscan5m_accuracy"]].reset_index(
        drop=True
    )


def at_rest() -> pd.DataFrame:
    """What the twenty cost, counted without computing: `data/results/backbones_at_rest.csv`, in the paper's order."""
    return results.table("backbones_at_rest")


# --- measured ----------------------------------------------------------------------------------------------------


def measured() -> pd.DataFrame:
    """Every row of the files of `PARTS` that are there: `COLUMNS`, scores and spreads in percent.

    Of a model that several files have under one protocol, the row with the most seeds is kept. Rows without a training keep
    their note. Tables of Table I give their row E009, as BioAutoML-NAS, and the majority class.
    """
    found = [_rows(part, path) for part in PARTS for path in files_of(part)]
    frame = (
        pd.concat([f for f in found if len(f)], ignore_index=True)
        if found
        else pd.DataFrame(columns=list(COLUMNS))
    )
    frame = frame.sort_values("n_seeds", ascending=False, kind="stable")
    return frame.drop_duplicates(["model", *PROTOCOL]).sort_index().reset_index(drop=True)


def files_of(part: Part) -> list[str]:
    """The names under data/results/ of a part's tables that are there."""
    names = [path.stem for path in sorted(results.folder().glob(f"{part.file}*.csv"))]
    several = part.file.startswith("backbones_")
    return [
        n
        for n in names
        if n == part.file or (several and n.startswith(f"{part.file}_") and not n.endswith("_runs"))
    ]


def _rows(part: Part, name: str) -> pd.DataFrame:
    frame = results.table(name)
    if "row" in frame:  # a table of experiments (`ablation_tables.summary`)
        frame = frame.rename(columns={"row": "model", "n": "n_seeds"})
    if part.names is not None:
        frame = frame[frame["model"].isin((MAJORITY, *part.names))].replace({"model": dict(part.names)})
    same = {
        "collection": part.collection,
        "inputs": part.inputs,
        "augment": "none",
        "pretrained": False,
        "frozen": False,
    }
    absent = {"note": "", "n_seeds": 0}
    frame = frame.reindex(columns=list(COLUMNS)).assign(collection=part.collection, file=f"{name}.csv")
    for column, value in (same | absent).items():
        frame[column] = frame[column].astype(object).where(frame[column].notna(), value)
    for ending in (
        "mean",
        "sd",
    ):  # weighted recall is accuracy by definition; older files have the latter alone
        recall, accuracy = frame[f"recall_weighted_{ending}"], frame[f"accuracy_{ending}"]
        frame[f"recall_weighted_{ending}"] = recall.where(recall.notna(), accuracy)
    frame["model"] = [_registered(model) for model in frame["model"]]
    frame.loc[frame["model"] == MAJORITY, "inputs"] = ""  # it has no input
    return frame.astype({"n_seeds": int, "pretrained": bool, "frozen": bool})


def _registered(name: str) -> str:
    """A name as the paper prints it, or as it is where the paper has no such model."""
    return OURS if name == PRINTED else _printed().get(key(str(name)), str(name))


def _printed() -> dict[str, str]:
    return {key(name): name for number in TABLES for name in paper(number)["model"]}


def small_backbones() -> tuple[str, ...]:
    """The eight backbones that two cores can train at 64 px, cheapest first, as the paper prints them."""
    return tuple(find(name) for name in results.entries()["backbones_synthetic"]["names"])


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `measured` that have a score of a training."""
    return frame[(frame["n_seeds"] > 0) & frame["accuracy_mean"].notna()]


def protocol(row: pd.Series) -> str:
    """How a row's network was trained, in words: "field photographs, image"."""
    extras = [str(row["augment"]).replace("_", " ")] if row["augment"] != "none" else []
    extras += [name for name in ("pretrained", "frozen") if row[name]]
    extras += [] if pd.isna(row["budget_minutes"]) else [f"{row['budget_minutes']:g} minutes"]
    return ", ".join((row["inputs"], *extras))
