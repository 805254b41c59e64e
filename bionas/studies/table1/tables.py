"""Table I as measured, from the run folders of a grid and from the tables kept in `data/results/`.

    runs_table(grid), summary(grid, runs, command)    what a grid has found so far; nothing is run again
    kept(name, rows)                                  the committed summary, with `not run` for missing rows
    side_by_side(table), gains(table, rows)           the paper's figures beside ours; points above random search

Published figures stay in columns of their own, which begin with `paper_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bionas.studies import published, report, results
from bionas.studies.report import MAJORITY, METRICS, mean_sd
from bionas.studies.table1.grid import Experiment, Grid, Trial, table_one

COSTS = ("mmacs", "parameters", "weights_mb", "peak_mb", "cpu_ms", "gpu_ms")
SPENT = ("candidates", "updates", "theta_reach", "search_images", "images_seen", "search_minutes", "minutes")
"""What a search and its retraining used; `updates` and `theta_reach` are empty for strategies that have none."""

BEGIN = ("row", "primitive_set", "fusion", "strategy", "n", "not_done")
"""The first columns of a summary."""


def _named(experiment: Experiment) -> dict[str, str]:
    return {
        "row": experiment.name,
        "primitive_set": experiment.primitive_set,
        "fusion": experiment.fusion,
        "strategy": experiment.strategy,
    }


# --- a grid ----------------------------------------------------------------------------------------------------------


def runs_table(grid: Grid) -> pd.DataFrame:
    """One row per experiment and seed, with its status ("done", "failed", "not run", "waiting") and the reason.

    Metrics are shares of one. Costs are those of the derived network: millions of MACs, parameters, MB of fp32 weights,
    peak MB of an inference, ms per inference (one specimen; one thread of the CPU). Spent: distinct candidates, updates of
    a strategy that learns, theta reach (the sum of theta's learning rate over its steps), images and minutes of the search,
    images and minutes of the retraining; minutes are those of training, without evaluation.
    """
    rows = []
    for experiment in grid.rows:
        for seed in grid.seeds:
            trial = Trial(experiment, seed)
            run, failure = grid.run(trial), grid.failure(trial)
            row = _named(experiment) | {"seed": seed, "status": "waiting", "reason": ""}
            if experiment.name in grid.unfit:
                row |= {"status": "not run", "reason": grid.unfit[experiment.name]}
            elif run.complete:
                found = run.summary | {"mmacs": run.summary["macs"] / 1e6}
                row |= {"status": "done"} | {name: run.metrics[name] for name in METRICS}
                row |= {name: found.get(name) for name in (*COSTS, *SPENT)}
                row |= {"budget": grid.budget_of(experiment), "code": run.provenance["commit"]}
                row |= {"run": f"{grid.folder.name}/{run.path.name}"}
            elif failure is not None:
                row |= {"status": "failed", "reason": failure}
            rows.append(row)
    return pd.DataFrame(
        rows,
        columns=[*BEGIN[:4], "seed", "status", "reason", *METRICS, *COSTS, *SPENT, "budget", "code", "run"],
    )


def summary(grid: Grid, runs: pd.DataFrame, command: str) -> pd.DataFrame:
    """One row per experiment, the majority class first: the paper's columns as printed, and ours.

    Ours: metrics in percent with their sample standard deviation over `n` seeds, costs and what was spent as means.
    """
    table: list[dict[str, Any]] = [{"row": MAJORITY, "n": 0, **report.majority(grid.plan)}]
    paper = _printed()
    for experiment in grid.rows:
        group = runs[runs["row"] == experiment.name]
        done = group[group["status"] == "done"]
        row = _named(experiment) | {"n": len(done), "not_done": "; ".join(_not_done(group))}
        row["budget"] = grid.budget_of(experiment)
        if len(done):
            row |= report.percentages(done)
            row |= {name: round(pd.to_numeric(done[name]).mean(), 3) for name in (*COSTS, *SPENT)}
        table.append(row | (paper.loc[experiment.name].to_dict() if experiment.name in paper.index else {}))
    frame = pd.DataFrame(table).assign(mode=grid.plan.mode)
    frame = frame.assign(**report.provenance(grid.plan, runs, command))
    rest = [column for column in frame if column not in BEGIN]
    return frame[[*BEGIN, *sorted(rest, key=lambda column: not column.startswith("paper_"))]]


def _not_done(group: pd.DataFrame) -> list[str]:
    if (group["status"] == "not run").any():
        return [f"not run: {group['reason'].iloc[0]}"]
    left = group[group["status"] != "done"]
    return [f"seed {r.seed} {r.status}{': ' + r.reason if r.reason else ''}" for r in left.itertuples()]


def _printed() -> pd.DataFrame:
    """Table I's figures as printed, by row, their columns prefixed with `paper_`."""
    printed = published.table("table1_ablation").set_index("exp_id")
    return printed.select_dtypes("number").add_prefix("paper_")


# --- what is kept ----------------------------------------------------------------------------------------------------

NEEDED = tuple(f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd")) + COSTS + SPENT


def kept(name: str, rows: Sequence[str] | None = None) -> pd.DataFrame:
    """The committed summary of a grid: columns as in `summary`, the majority class first where the grid was begun.

    Args:
        name: of its table in `data/results/`.
        rows: rows of Table I, all by default; those not in the table have n = 0, and `not_done` holds the command.
    """
    paper, found, missing = _printed(), results.table(name), results.not_run(name)
    rows = list(table_one()) if rows is None else rows
    if found.empty:
        found = pd.DataFrame(columns=[*BEGIN, *paper.columns])
    absent = [
        {**_named(experiment), "n": 0, "not_done": missing, **paper.loc[experiment.name]}
        for experiment in table_one().values()
        if experiment.name in rows and experiment.name not in set(found["row"])
    ]
    held = found[found["row"].isin([MAJORITY, *rows])]
    table = pd.concat([part for part in (held, pd.DataFrame(absent)) if len(part)], ignore_index=True)
    table = table.reindex(columns=[*table, *(column for column in NEEDED if column not in table)])
    order = {MAJORITY: -1, **{row: i for i, row in enumerate(table_one())}}
    return table.sort_values("row", key=lambda names: names.map(order), ignore_index=True)


SCORES = {
    "accuracy (%)": "accuracy",
    "precision (%)": "precision_weighted",
    "recall (%)": "recall_weighted",
    "F1 (%)": "f1_weighted",
    "balanced (%)": "balanced_accuracy",
    "macro F1 (%)": "f1_macro",
}
"""Heading -> metric of ours. The paper does not say how it averages; precision, recall and F1 of ours are weighted."""

PRINTED = {
    "operations": ("paper_n_ops", 0),
    "accuracy (%)": ("paper_accuracy", 2),
    "precision (%)": ("paper_precision", 2),
    "recall (%)": ("paper_recall", 2),
    "F1 (%)": ("paper_f1", 2),
    "GFLOPs": ("paper_gflops", 2),
    "MB": ("paper_memory_mb", 2),
    "GPU ms": ("paper_gpu_ms", 2),
    "CPU ms": ("paper_cpu_ms", 2),
    "hours": ("paper_train_hours", 0),
}
"""Heading -> the printed column and its digits."""

SHORT = ("accuracy (%)", "balanced (%)", "macro F1 (%)", "GFLOPs", "MB", "CPU ms")
"""The headings that the short table keeps."""


def side_by_side(table: pd.DataFrame, full: bool = False) -> pd.DataFrame:
    """The paper's table and ours as text, one row per experiment.

    Args:
        table: of `kept`.
        full: every column of the paper (operations, accuracy, precision, recall, F1, FLOPs, memory, GPU and CPU latency,
            hours), with ours in the same order: mean ± sd over n seeds, MMACs and FLOPs = 2 x MACs, MB of weights, ms,
            candidates, theta reach, minutes.
    """
    rows = []
    for row in table.to_dict("records"):
        cells = {("", "row"): row["row"]}
        cells |= {("", name): _text(row[name]) for name in ("primitive_set", "fusion", "strategy")}
        for heading, (column, digits) in PRINTED.items():
            if full or heading in SHORT:
                cells["the paper", heading] = mean_sd(row[column], digits=digits, missing="")
        for heading, metric in SCORES.items():
            if full or heading in SHORT:
                missing = report.NOT_RUN if metric == "accuracy" else ""
                mean, sd = row[f"{metric}_mean"], row[f"{metric}_sd"]
                cells["ours", heading] = mean_sd(mean, sd, missing=missing)
        cells["ours", "n"] = str(int(row["n"]))
        cells["ours", "MMACs"] = mean_sd(row["mmacs"], digits=1, missing="")
        if full:
            cells["ours", "GFLOPs (2 x MACs)"] = mean_sd(2e-3 * row["mmacs"], digits=4, missing="")
        cells["ours", "MB"] = mean_sd(row["weights_mb"], missing="")
        if full:
            cells["ours", "GPU ms"] = mean_sd(row["gpu_ms"], missing="")
        cells["ours", "CPU ms"] = mean_sd(row["cpu_ms"], missing="")
        if full:
            cells["ours", "candidates"] = mean_sd(row["candidates"], digits=0, missing="")
            cells["ours", "updates"] = mean_sd(row["updates"], digits=0, missing="")
            cells["ours", "theta reach"] = mean_sd(row["theta_reach"], missing="")
        minutes = f"{row['search_minutes']:.1f} + {row['minutes']:.1f}"
        cells["ours", "search + training (min)"] = "" if pd.isna(row["minutes"]) else minutes
        rows.append(cells)
    frame = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))
    return frame.set_index(("", "row")).rename_axis("row")


def left(table: pd.DataFrame) -> str:
    """What was not run, or not with every seed, and why: one line for rows of one reason; "" where nothing is left.

    Args:
        table: of `kept`.
    """
    waiting = table.dropna(subset="not_done").query("not_done != ''")
    reasons = waiting.groupby("not_done", sort=False)["row"].agg(list)
    return "\n".join(f"{', '.join(rows)}: {reason}" for reason, rows in reasons.items())


def gains(table: pd.DataFrame, rows: Sequence[str], against: str = "E007") -> pd.DataFrame:
    """How many points of accuracy each of these rows is above another row, and the standard error of the difference.

    Columns: label, strategy, gain, error, paper_gain. The seeds of two rows are taken as independent: they share their
    data, not what was searched. gain is missing where one of the two was not run; error where one has a single seed.

    Args:
        table: of `kept`.
    """
    by_row = table.set_index("row")
    start, other = by_row.loc[against], by_row.loc[list(rows)]
    variance = [t["accuracy_sd"] ** 2 / np.maximum(np.float64(t["n"]), 1) for t in (other, start)]
    return pd.DataFrame(
        {
            "label": other.index + " " + other["strategy"],
            "strategy": other["strategy"],
            "gain": other["accuracy_mean"] - start["accuracy_mean"],
            "error": np.sqrt(variance[0] + variance[1]),
            "paper_gain": other["paper_accuracy"] - start["paper_accuracy"],
        }
    )


def fusions(ending: str = "informative") -> pd.DataFrame:
    """Metadata alone, image alone and each fusion on the same specimens: does joining them help?

    Read from the runs of `metadata_alone_<ending>`, `image_alone_<ending>` and `ablation_<ending>`; one row each, the fusions
    being those searched by the gradient over the full set.

    Returns:
        inputs, n, accuracy and low, high (95 % interval of the mean, Student's t over seeds; percent), balanced, and the
        paper's accuracy; n = 0 and NaN where it was not run.
    """
    grid = results.table(f"ablation_{ending}_runs")
    printed, rows = _printed()["paper_accuracy"], []
    alone = {"metadata": f"metadata_alone_{ending}_runs", "image": f"image_alone_{ending}_runs"}
    parts = [(f"{what} alone", results.table(name), np.nan) for what, name in alone.items()]
    for experiment in table_one().values():
        if (experiment.primitive_set, experiment.strategy) == ("full", "gradient"):
            own = grid[grid["row"] == experiment.name] if len(grid) else grid
            parts.append((experiment.fusion, own, printed[experiment.name]))
    for inputs, runs, paper in parts:
        accuracy = 100 * runs["accuracy"].dropna() if "accuracy" in runs else pd.Series(dtype=float)
        half = stats.t.ppf(0.975, max(len(accuracy) - 1, 1)) * accuracy.sem() if len(accuracy) > 1 else np.nan
        balanced = 100 * runs["balanced_accuracy"].mean() if len(accuracy) else np.nan
        mean = accuracy.mean()
        found = {
            "inputs": inputs,
            "n": len(accuracy),
            "accuracy": mean,
            "low": mean - half,
            "high": mean + half,
        }
        rows.append(found | {"balanced": balanced, "paper_accuracy": paper})
    return pd.DataFrame(rows).round(2)


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)
