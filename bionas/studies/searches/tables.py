"""The study's rows as two tables: one row per search, and one row per strategy with 95 % intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bionas.genotype import Genotype
from bionas.studies.searches.intervals import bootstrap
from bionas.studies.searches.study import CONTROL, Study, stopped
from bionas.training.decisions import agreement
from bionas.training.evaluation import majority_row

SHOWN = ("strategy", "n_searches", "balanced_accuracy", "low", "high", "difference", "difference_low",
         "difference_high", "core_minutes")  # fmt: skip


def runs_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per search, shares of one, the genotype as its key."""
    plain = []
    for row in rows:
        genotype = row.get("genotype")
        key = Genotype.from_json(json.dumps(genotype)).key() if genotype else ""
        plain.append({**{k: v for k, v in row.items() if k != "genotype"}, "key": key})
    return pd.DataFrame(plain).round(5)


def correct(study: Study, row: dict[str, Any]) -> np.ndarray:
    """(N,) bool: which test photographs the final network of a search named correctly."""
    path = study.row_path(row["seed"], row["strategy"]).parent / "predictions.csv"
    predictions = pd.read_csv(path, keep_default_na=False)
    return (predictions["truth"].astype(str) == predictions["predicted"].astype(str)).to_numpy()


def summary(study: Study, rows: Sequence[dict[str, Any]], command: str) -> pd.DataFrame:
    """One row per strategy in percent, the majority class first; difference is that from random search."""
    splits = study.plan.splits()
    labels = np.asarray(splits.test.labels)
    majority = majority_row(splits.train.labels, splits.test.labels, len(splits.train.class_names))
    table: list[dict[str, Any]] = [
        {
            "strategy": "majority class",
            "n_searches": 0,
            "balanced_accuracy": 100 * majority["balanced_accuracy"],
            "accuracy": 100 * majority["accuracy"],
        }
    ]
    by_name = {n: [row for row in rows if row["strategy"] == n] for n in study.strategies}
    right = {n: {row["seed"]: correct(study, row) for row in of} for n, of in by_name.items()}
    for name, of in by_name.items():
        if not of:
            table.append({"strategy": name, "n_searches": 0, "note": "not run"})
            continue
        interval = bootstrap(right[name], labels)
        line: dict[str, Any] = {
            "strategy": name,
            "n_searches": len(of),
            "balanced_accuracy": 100 * interval.mean,
            "low": 100 * interval.low,
            "high": 100 * interval.high,
            "sd": 100 * float(np.std([row["balanced_accuracy"] for row in of], ddof=1))
            if len(of) > 1
            else None,
        }
        if name != CONTROL and right[CONTROL]:
            difference = bootstrap(right[name], labels, right[CONTROL])
            line |= {
                "difference": 100 * difference.mean,
                "difference_low": 100 * difference.low,
                "difference_high": 100 * difference.high,
            }
        for column in ("accuracy", "val_accuracy", "val_balanced_accuracy"):
            values = [row[column] for row in of if row[column] is not None]
            line[column] = 100 * float(np.mean(values)) if values else None
        for column in ("core_minutes", "search_core_minutes", "training_core_minutes", "mmacs", "candidates"):
            line[column] = float(np.mean([row[column] for row in of]))
        for column in ("updates", "theta_reach"):
            values = [row[column] for row in of if row.get(column) is not None]
            line[column] = float(np.mean(values)) if values else None
        found = [Genotype.from_json(json.dumps(r["genotype"])) for r in of if "genotype" in r]
        line["agreement"] = agreement(found)
        line["note"] = stopped(name, of + by_name[CONTROL]) if name != CONTROL else ""
        table.append(line)
    codes = "; ".join(sorted({row["code"] for row in rows}))
    plan = study.plan
    return (
        pd.DataFrame(table)
        .round(3)
        .assign(
            budget=f"{study.minutes:g} core-minutes a search, final training included",
            epochs=plan.epochs,
            source=f"{plan.source}, test split, {len(labels)} specimens",
            code=codes,
            command=command,
        )
    )


def in_words(table: pd.DataFrame) -> list[str]:
    """One sentence per strategy of a summary: its balanced accuracy, and whether the difference from random search is clear.

    Args:
        table: as `summary` returns it or `results.table` reads it.
    """
    said = []
    for row in table[table["n_searches"] > 0].to_dict("records"):
        line = f"{row['strategy']}: {row['balanced_accuracy']:.1f} % ({row['low']:.1f} to {row['high']:.1f})"
        if not pd.isna(row.get("difference")):
            low, high = row["difference_low"], row["difference_high"]
            verdict = "above it" if low > 0 else "below it" if high < 0 else "not told apart from it"
            line += f"; {row['difference']:+.1f} points from {CONTROL} search ({low:+.1f} to {high:+.1f}): {verdict}"
        said.append(line)
    return said
