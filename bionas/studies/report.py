"""From run folders to summary tables: the one way for every study.

    run_row(model, run)              a finished run as a row of a table of runs
    summary(rows, plan, command)     mean and standard deviation per group, the majority class first
    mean_sd(mean, sd, n=3)           "45.9 ± 1.3 (3)", the one formatter
    write(name, rows, table)         data/results/NAME.csv and NAME_runs.csv

Tables of runs hold shares of one, summaries hold percent. Every summary ends with its provenance: source, code, command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bionas.studies.searches.intervals import bootstrap
from bionas.system import files, places
from bionas.training.configuration import Plan
from bionas.training.evaluation import SHOWN, majority_row
from bionas.training.runs import Run

NOT_RUN = "not run"

MAJORITY = "majority class"

HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro")

METRICS = (
    *HEADLINE,
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "precision_macro",
    "recall_macro",
)
"""On the test split, shares of one. The papers do not say how they average, so weighted and macro are both given."""


def run_row(model: str, run: Run, searched: Run | None = None) -> dict[str, Any]:
    """A finished run as a row of a table of runs; None where the run has no such figure (a system without a network).

    Args:
        model: its name in the table.
        searched: the search that found its network, whose minutes are listed beside those of the training.
    """
    summary, config, provenance = run.summary, run.config, run.provenance
    val_accuracy = summary.get("val_accuracy")
    if (run.path / "history.csv").exists():
        val_accuracy = run.history["val_accuracy"].iloc[-1]
    return {
        "model": model,
        "augment": config["augment"],
        "seed": config["seed"],
        **{name: run.metrics[name] for name in METRICS},
        "val_accuracy": val_accuracy,
        "channels": config["network"]["channels"] if "genotype" in config else None,
        "mmacs": summary["macs"] / 1e6 if "macs" in summary else None,
        "parameters": summary.get("parameters"),
        "minutes": summary["minutes"],
        "search_minutes": searched.summary["minutes"] if searched else 0.0,
        "epochs": summary.get("epochs"),
        "images_seen": summary["images_seen"],
        "learning_rate": config["learning_rate"],
        "threads": provenance["threads"],
        "code": provenance["commit"],
        "run": run.path.name,
    }


def summary(
    rows: pd.DataFrame,
    plan: Plan,
    command: str,
    metrics: Sequence[str] = METRICS,
    by: Sequence[str] = ("augment", "model"),
    notes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Mean and sample standard deviation of each group of runs, the majority class first.

    Columns: model, augment (and the other columns of `by`), n_seeds, each metric in percent with its standard deviation,
    cost, budget, source, code, command; and note, where rows have one.

    Args:
        rows: one per run, as `run_row` makes them. Rows whose `note` is not empty are failed runs: they are left out of the
            means and named in the note.
        metrics: columns of `rows`, shares of one.
        by: the columns of `rows` that define a group.
        notes: models that were not run -> why; one row per model, at the end.
    """
    table = [{"model": MAJORITY, "augment": "none", "n_seeds": 0, **majority(plan, metrics)}]
    for key, group in rows.groupby(list(by), sort=False):
        named, failures = dict(zip(by, key, strict=True)), {}
        if "note" in group:
            failed = [f"seed {r.seed} {r.note}" for r in group.itertuples() if r.note]
            failures, group = {"note": "; ".join(failed)}, group[group["note"] == ""]
        table.append({"model": named.pop("model"), **named, **_of_group(group, metrics), **failures})
    frame = pd.DataFrame(table)
    frame = frame.sort_values("augment", kind="stable", key=lambda c: c != "none", ignore_index=True)
    if notes:
        absent = [{"model": model, "n_seeds": 0, "note": why} for model, why in notes.items()]
        frame = pd.concat([frame, pd.DataFrame(absent)], ignore_index=True)
    return frame.assign(**provenance(plan, rows, command))


def majority(plan: Plan, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """`<metric>_mean` in percent of always answering the training split's commonest class on the test split."""
    splits = plan.splits()
    found = majority_row(splits.train.labels, splits.test.labels, len(splits.train.class_names))
    return {f"{name}_mean": round(100 * found[name], 2) for name in metrics if name in found}


def percentages(group: pd.DataFrame, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """`<metric>_mean` and `<metric>_sd` in percent over the rows of a group of runs."""
    found = {}
    for metric in metrics:
        shares = group[metric].astype(float)
        found[f"{metric}_mean"] = round(100 * shares.mean(), 2)
        found[f"{metric}_sd"] = round(100 * shares.std(), 2)
    return found


def right_by_seed(plan: Plan, rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """seed -> (N,) which test specimens a run named correctly, for rows of one model that `run_row` made."""
    found = {}
    for row in rows.itertuples():
        run = Run(dataclasses.replace(plan, seed=row.seed).folder() / row.run)
        predictions = run.table("predictions")
        found[row.seed] = (predictions["truth"] == predictions["predicted"]).to_numpy()
    return found


def with_differences(table: pd.DataFrame, rows: pd.DataFrame, plan: Plan, reference: str) -> pd.DataFrame:
    """A summary with the columns difference, low and high: balanced accuracy above the model `reference`, in points, with a
    95 % bootstrap interval over seeds and test specimens. Without the columns where `reference` was not run.

    Args:
        table: `summary` of `rows`, one row per model.
        rows: as `run_row` makes them.
    """
    table, labels = table.copy(), plan.splits().test.labels
    right = {model: right_by_seed(plan, group) for model, group in rows.groupby("model", sort=False)}
    for model, own in right.items():
        if model == reference or reference not in right:
            continue
        found = bootstrap(own, labels, right[reference])
        for column, value in zip(("difference", "low", "high"), found, strict=True):
            table.loc[table["model"] == model, column] = round(100 * value, 2)
    return table


PROVENANCE = ["source", "code", "command"]
"""The last columns of every summary."""


def provenance_last(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a summary that others were added to, in their order again."""
    return table[[name for name in table if name not in PROVENANCE] + PROVENANCE]


def provenance(plan: Plan, rows: pd.DataFrame, command: str) -> dict[str, str]:
    """The last columns of every summary: source, code (the commits that trained), command."""
    codes = "; ".join(sorted(rows["code"].dropna().unique())) if "code" in rows else ""
    source = f"{plan.source}, test split, {len(plan.splits().test)} specimens"
    return {"source": source, "code": codes, "command": command}


def _of_group(group: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """n_seeds, metrics, cost and budget of a group's runs."""
    if group.empty:
        return {"n_seeds": 0}

    def distinct(name: str) -> str:
        return "; ".join(str(value) for value in sorted(group[name].dropna().unique()))

    parameters = group["parameters"].mean()
    return {
        "n_seeds": group["seed"].nunique(),
        **percentages(group, metrics),
        "mmacs": round(group["mmacs"].mean(), 2),
        "parameters": None if pd.isna(parameters) else int(parameters),
        "minutes": round(group["minutes"].mean(), 1),
        "search_minutes": round(group["search_minutes"].mean(), 1),
        **{name: distinct(name) for name in ("epochs", "images_seen", "learning_rate")},
    }


# --- text ------------------------------------------------------------------------------------------------------------


def mean_sd(
    mean: float | None, sd: float | None = None, digits: int = 2, n: int | None = None, missing: str = NOT_RUN
) -> str:
    """A mean with its standard deviation and number of runs as text: "13.24 ± 0.41", "13.2 ± 0.4 (3)".

    Args:
        sd: None or NaN where there is none, then the mean stands alone.
        n: runs, in brackets at the end; None or 0 leaves them out.
        missing: the text where there is no mean.
    """
    if mean is None or pd.isna(mean):
        return missing
    spread = "" if sd is None or pd.isna(sd) else f" ± {sd:.{digits}f}"
    return f"{mean:.{digits}f}{spread}" + (f" ({int(n)})" if n else "")


def mean_sd_table(frame: pd.DataFrame, by: str = "model", metrics: Sequence[str] = SHOWN) -> pd.DataFrame:
    """Models side by side, in the frame's order: "54.0 ± 2.0" in percent, mean and standard deviation of n rows.

    Args:
        frame: `by` and the metrics (shares of one), one row per model and seed.

    Returns:
        n and the metrics as text, indexed by `by`; no standard deviation where n is 1, "" where a metric is undefined.
    """
    rows = {}
    for name, group in frame.groupby(by, sort=False):
        shares = 100 * group[list(metrics)].astype(float)
        cells = {
            m.replace("_", " "): mean_sd(shares[m].mean(), shares[m].std(), 1, missing="") for m in metrics
        }
        rows[name] = {"n": len(group)} | cells
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def number(value: Any, digits: int = 2, missing: str = "") -> str:
    """A figure as text with thousands separated; whole numbers without a point, text unchanged, `missing` for NaN."""
    if value is None or pd.isna(value):
        return missing
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.{digits}f}"
    return str(value)


# --- files -----------------------------------------------------------------------------------------------------------


def write(name: str | None, tables: Mapping[str, pd.DataFrame], folder: Path | None = None) -> list[Path]:
    """Write tables as NAME<ending>.csv and print where they are; nothing where `name` is None.

    Args:
        tables: ending -> table: "" for the summary, "_runs" for its runs.
        folder: `data/results/` of the checkout by default.
    """
    if not name:
        return []
    folder = folder or places.root() / "data" / "results"
    paths = [folder / f"{name}{ending}.csv" for ending in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        files.write_csv(path, table)
        print(f"written: {places.shown(path)}")
    return paths
