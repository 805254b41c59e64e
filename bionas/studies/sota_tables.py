"""Tables II, III, IV and V beside what was measured here: every figure from `data/paper/` or `data/results/`.

    side_by_side("II") -> the paper's accuracy, then ours    full_table("II") -> every column of the paper, then ours
    with_and_without() -> the effect of metadata             not_run() -> what is missing, why, and the command

A result that does not exist yet says "not run". The paper's figures and ours are of different specimens and stand in
separate columns. Rows come from `sota_rows`; figures are drawn by `figures.sota`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bionas.errors import UnknownName
from bionas.studies import published, results
from bionas.studies.backbones import paper_backbones, slug
from bionas.studies.report import HEADLINE, MAJORITY, METRICS, NOT_RUN, mean_sd, number
from bionas.studies.sota_rows import (
    BOTH,
    DATASETS,
    EMBEDDED,
    IMAGE,
    OURS,
    PARTS,
    PHOTOGRAPHS,
    RECORDS,
    TABLES,
    at_rest,
    files_of,
    measured,
    paper,
    protocol,
    published_models,
    small_backbones,
    trained,
    under_majority,
)

__all__ = [
    "DATASETS",
    "EMBEDDED",
    "OURS",
    "PARTS",
    "PHOTOGRAPHS",
    "TABLES",
    "at_rest",
    "blanked",
    "budgets",
    "full_table",
    "lines",
    "measured",
    "not_run",
    "paper",
    "plain",
    "published_models",
    "scores_and_costs",
    "side_by_side",
    "systems",
    "trained",
    "under_majority",
    "with_and_without",
]

WITH_METADATA = "backbones_synthetic_metadata"
"""The file of backbones that saw images and metadata; files that continue its name are read as well."""

NOT_RECORDED = "not recorded"
"""A score that the file of a trained row does not hold."""


def side_by_side(number: str, metric: str = "accuracy", rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """A table of the paper with ours beside it, one row per model as printed, the majority class first, BioAutoML-NAS last.

    Columns (source, what): the paper's accuracy on its two data sets, then a column for each collection and protocol,
    "mean ± sd (seeds)" in percent, or "not run". Ours begin with the same columns whatever has been run; protocols that
    results bring along follow.

    Args:
        number: of `TABLES`.
        metric: of `METRICS`, for ours; the paper's is accuracy.
        rows: `measured()` by default.

    Raises:
        UnknownName: no such table or metric.
    """
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    theirs, rows = paper(number).set_index("model"), measured() if rows is None else rows
    models = [MAJORITY, *theirs.index]
    table = pd.DataFrame(index=pd.Index(models, name="model"))
    order, percent = published.commonest_order()
    for dataset, prefix in DATASETS.items():
        column = theirs[f"{prefix}_accuracy"].map("{:.2f}".format).reindex(models)
        table["the paper", f"{dataset}, accuracy"] = column.fillna("")
    table.loc[MAJORITY, [("the paper", "BIOSCAN-5M, accuracy")]] = f"{percent:.2f} (always {order})"
    for collection, words, group in _columns(number, rows, models):
        cells = {row.model: cell(row, metric) for row in group.itertuples()}
        column = [cells.get(model, NOT_RUN) for model in models]
        table[collection, words] = column
        table.loc[MAJORITY, [(collection, words)]] = majority_cell(rows, collection, metric)
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


FULL = {
    "accuracy": "accuracy",
    "precision": "precision_weighted",
    "recall": "recall_weighted",
    "F1": "f1_weighted",
    "macro F1": "f1_macro",
    "balanced": "balanced_accuracy",
}
"""The scores of `full_table`: heading -> metric. The paper does not say how it averages; ours are weighted unless named."""


def full_table(number: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """A table of the paper in full beside ours: one row per model as printed, the majority class first, ours last.

    Columns (source, what): accuracy, precision, recall and F1 (percent) on the paper's two data sets; then for each of our
    collections and protocols the scores of `FULL` ("mean ± sd (seeds)", percent), MACs and parameters (10^6) and the
    minutes of training, of search and training where there was a search. Text throughout: "not run" where nothing was
    trained, "not recorded" where a file lacks the score.

    Args:
        number: of `TABLES`.
        rows: `measured()` by default.

    Raises:
        UnknownName: no such table.
    """
    theirs, rows = paper(number).set_index("model"), measured() if rows is None else rows
    models = [MAJORITY, *theirs.index]
    columns: dict[tuple[str, str], list[str]] = {}
    for dataset, prefix in DATASETS.items():
        for name in ("accuracy", "precision", "recall", "f1"):
            printed = theirs[f"{prefix}_{name}"].reindex(models)
            heading = name.upper() if name == "f1" else name
            columns[f"the paper, {dataset}", heading] = [mean_sd(value, missing="") for value in printed]
    for collection, words, group in _columns(number, rows, models):
        place = f"{collection}: {words}"
        own = {row.model: row for row in group.itertuples()}
        for heading, metric in FULL.items():
            cells = [cell(own[model], metric) if model in own else NOT_RUN for model in models]
            columns[place, heading] = [majority_cell(rows, collection, metric), *cells[1:]]
        costs = [_costs(own.get(model)) for model in models]
        for heading in ("MACs (M)", "parameters (M)", "minutes"):
            columns[place, heading] = [cost.get(heading, "") for cost in costs]
    return pd.DataFrame(columns, index=pd.Index(models, name="model"))


def _costs(row: Any) -> dict[str, str]:
    if row is None or row.n_seeds == 0 or pd.isna(row.accuracy_mean):
        return {}
    search = f"{row.search_minutes:.1f} + " if row.search_minutes else ""
    parameters = None if pd.isna(row.parameters) else row.parameters / 1e6
    return {
        "MACs (M)": mean_sd(row.mmacs, digits=1, missing=""),
        "parameters (M)": mean_sd(parameters, missing=""),
        "minutes": search + mean_sd(row.minutes, digits=1, missing=""),
    }


def _columns(number: str, rows: pd.DataFrame, models: list[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each collection and protocol with its rows: those that are always shown, then those that results brought."""
    always = [(EMBEDDED, IMAGE), (EMBEDDED, BOTH), (PHOTOGRAPHS, IMAGE)]
    if number == "V":  # the systems were given images, metadata and minutes
        always = [(EMBEDDED, f"{BOTH}, 10 minutes")]
    rows = rows[rows["model"].isin(models) & (rows["model"] != MAJORITY)]
    where = [(row["collection"], protocol(row)) for _, row in rows.iterrows()]
    others = trained(rows[rows["model"] != OURS])  # a protocol that only ours had compares nothing
    brought = [(row["collection"], protocol(row)) for _, row in others.iterrows()]
    for place in dict.fromkeys([*always, *brought]):
        yield *place, rows[[found == place for found in where]]


def cell(row: Any, metric: str) -> str:
    """A row of `measured` as it stands in a table: "45.9 ± 1.3 (3)"; "not run" or "failed" where it has no score."""
    if row.n_seeds == 0 or pd.isna(row.accuracy_mean):
        return "failed" if "failed" in row.note else NOT_RUN
    mean, sd = getattr(row, f"{metric}_mean"), getattr(row, f"{metric}_sd")
    return mean_sd(mean, sd, digits=1, n=row.n_seeds, missing=NOT_RECORDED)


def majority_cell(rows: pd.DataFrame, collection: str, metric: str) -> str:
    """The majority class of a collection as it stands in a table: "14.3"."""
    return mean_sd(lines(collection, metric, rows).get(MAJORITY), digits=1)


def lines(collection: str, metric: str = "accuracy", rows: pd.DataFrame | None = None) -> dict[str, float]:
    """What does without images on the test split of a collection, name -> percent: the majority class and, where it was
    trained, the metadata encoder alone. Empty where no file says."""
    rows = measured() if rows is None else rows
    blind = rows[
        (rows["collection"] == collection)
        & rows["inputs"].isin(("", RECORDS))
        & rows[f"{metric}_mean"].notna()
    ]
    return {row.model: float(getattr(row, f"{metric}_mean")) for row in blind.itertuples()}


def scores_and_costs(collection: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The twenty backbones and BioAutoML-NAS on images alone, from scratch, without augmentation, on a collection.

    Columns: model, table, macs (10^6 an image), parameters, accuracy, balanced_accuracy and f1_macro with their spreads
    (percent; NaN where not run), seeds, minutes, note. Of a backbone that was not run the cost is that at 64 px.
    """
    own = plain(measured() if rows is None else rows, collection, IMAGE)
    rest = at_rest().assign(macs=lambda t: 1000 * t["gmacs_64"])
    frame = pd.concat([rest, pd.DataFrame({"model": [OURS], "table": ["I"]})]).set_index("model")[
        ["table", "macs", "parameters"]
    ]
    own = own.set_index("model").reindex(frame.index)
    frame["macs"], frame["parameters"] = (
        own["mmacs"].fillna(frame["macs"]),
        own["parameters"].fillna(frame["parameters"]),
    )
    for metric in HEADLINE:
        frame[metric], frame[f"{metric}_sd"] = (
            own[f"{metric}_mean"].astype(float),
            own[f"{metric}_sd"].astype(float),
        )
    return frame.assign(
        seeds=own["n_seeds"], minutes=own["minutes"], note=own["note"].fillna(NOT_RUN)
    ).reset_index()


def systems(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of `measured` that are systems of Table V, best first, below the majority class of their collection."""
    rows = measured() if rows is None else rows
    found = rows[rows["file"].eq("automl_synthetic.csv") & rows["model"].ne(MAJORITY)]
    blind = rows[rows["collection"].eq(EMBEDDED) & rows["model"].eq(MAJORITY)]
    return pd.concat([blind.head(1), found.sort_values("accuracy_mean", ascending=False, kind="stable")])


def plain(rows: pd.DataFrame, collection: str, inputs: str) -> pd.DataFrame:
    """The trained rows of a collection and input under its budget of images, not augmented, pretrained or frozen."""
    rows = trained(rows)
    same = (rows["collection"] == collection) & (rows["inputs"] == inputs) & (rows["augment"] == "none")
    return rows[same & ~rows["pretrained"] & ~rows["frozen"] & rows["budget_minutes"].isna()]


def blanked(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame to look at: rounded to two digits, whole numbers without a point, "" where there is nothing."""
    return frame.map(number)


# --- what is missing, and whether what is there is comparable ----------------------------------------------------


def not_run(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """What has no score yet: what, collection, why, command; one row per missing file, per model that a file leaves out, and
    per model that was trained on the embedded specimens with images alone."""
    rows = measured() if rows is None else rows
    missing = []
    for part in PARTS:
        if not files_of(part):
            why = f"{NOT_RUN}: data/results/{part.file}.csv is not there"
            missing.append(
                {"what": part.holds, "collection": part.collection, "why": why, "command": part.command}
            )
    for part in (p for p in PARTS if p.file.startswith("backbones_") and files_of(p)):
        own = rows[(rows["collection"] == part.collection) & (rows["inputs"].isin((IMAGE, BOTH, "")))]
        done = set(trained(own)["model"])
        for b in paper_backbones():
            if b.name not in done:
                notes = [n for n in own.loc[own["model"] == b.name, "note"] if n]
                typed = slug(b.name)
                out = f"{part.file}_{typed.replace('-', '_')}"
                why = notes[0] if notes else f"{NOT_RUN}: no row of data/results/{part.file}*.csv has it"
                command = results.command(part.file, [typed], out)
                missing.append(
                    {"what": b.name, "collection": part.collection, "why": why, "command": command}
                )
    both = set(plain(rows, EMBEDDED, BOTH)["model"])
    seen = set(plain(rows, EMBEDDED, IMAGE)["model"])
    for b in (b for b in paper_backbones() if b.name in seen - both):
        typed = slug(b.name)
        out = f"{WITH_METADATA}_{typed.replace('-', '_')}"
        row = {
            "what": f"{b.name}, {BOTH}",
            "collection": EMBEDDED,
            "why": f"{NOT_RUN}: trained with images alone",
        }
        missing.append(row | {"command": results.command(WITH_METADATA, [typed], out)})
    return pd.DataFrame(missing, columns=["what", "collection", "why", "command"])


def budgets(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """What each training of a collection's backbones and of BioAutoML-NAS used, one row per collection.

    Columns: collection; networks; images_seen of a training (every value that occurs); equal, whether there is only
    one. The search of BioAutoML-NAS comes on top and is in its `search_minutes`. The systems of Table V have a budget
    of wall time and are not among these.
    """
    rows = trained(measured() if rows is None else rows)
    asked = rows["model"].isin([b.name for b in paper_backbones()] + [OURS]) & rows["inputs"].isin(
        (IMAGE, BOTH)
    )
    rows = rows[asked & rows["budget_minutes"].isna()]
    table = []
    for collection, group in rows.groupby("collection", sort=False):
        seen = sorted(
            {int(float(part)) for value in group["images_seen"].dropna() for part in str(value).split(";")}
        )
        table.append(
            {
                "collection": collection,
                "networks": group["model"].nunique(),
                "images_seen": "; ".join(f"{n:,}" for n in seen),
                "equal": len(seen) == 1,
            }
        )
    return pd.DataFrame(table, columns=["collection", "networks", "images_seen", "equal"])


def with_and_without(rows: pd.DataFrame | None = None, metric: str = "accuracy") -> pd.DataFrame:
    """The embedded specimens with and without the same metadata: each of `small_backbones`, and BioAutoML-NAS last.

    Columns: model; image, image_sd, image_seeds, and the same of both (percent, NaN where not run); gain, what metadata
    add, in points. Without augmentation and from scratch.
    """
    rows = measured() if rows is None else rows
    table = pd.DataFrame({"model": [*small_backbones(), OURS]})
    for name, inputs in (("image", IMAGE), ("both", BOTH)):
        own = plain(rows, EMBEDDED, inputs).set_index("model").reindex(table["model"])
        table[name], table[f"{name}_sd"] = own[f"{metric}_mean"].to_numpy(), own[f"{metric}_sd"].to_numpy()
        table[f"{name}_seeds"] = own["n_seeds"].fillna(0).astype(int).to_numpy()
    return table.assign(gain=(table["both"] - table["image"]).round(2))
