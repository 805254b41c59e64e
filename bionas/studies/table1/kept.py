"""Table I's grids as they are kept (`results`), a row an experiment, beside what was printed. No run is needed, and none
is invented: a row that was not run says so, with the command. Published figures stay in columns of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bionas.studies import published, results
from bionas.studies.table1.grid import table_one


def grid(name: str, rows: Sequence[str]) -> pd.DataFrame:
    """The summary of a grid with each of these rows of Table I: those not in it have n = 0 and `not_done` says why.

    The majority class is first where the grid was begun. Columns are those of `ablation_tables.summary`.
    """
    told = results.not_run(name)
    paper = (
        published.table("table1_ablation").set_index("exp_id").select_dtypes("number").add_prefix("paper_")
    )
    found = results.table(name)
    if found.empty:
        found = pd.DataFrame(
            columns=["row", "primitive_set", "fusion", "strategy", "n", "not_done", *paper.columns]
        )
    absent = [
        {
            "row": row.name,
            "primitive_set": row.primitive_set,
            "fusion": row.fusion,
            "strategy": row.strategy,
            "n": 0,
            "not_done": told,
            **paper.loc[row.name],
        }
        for row in table_one().values()
        if row.name in rows and row.name not in set(found["row"])
    ]
    kept = found[found["row"].isin(["majority class", *rows])]
    table = pd.concat([part for part in (kept, pd.DataFrame(absent)) if len(part)], ignore_index=True)
    measures = ("accuracy", "balanced_accuracy", "f1_macro")
    needed = [f"{m}_{part}" for m in measures for part in ("mean", "sd")] + [
        "mmacs",
        "weights_mb",
        "cpu_ms",
        "search_minutes",
        "minutes",
    ]
    table = table.reindex(columns=[*table, *(column for column in needed if column not in table)])
    order = {"majority class": -1, **{row: i for i, row in enumerate(table_one())}}
    return table.sort_values("row", key=lambda names: names.map(order), ignore_index=True)


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's table and ours as text, a row an experiment: what was printed; mean ± sd over n seeds, cost, and what was spent.

    Args:
        table: of `grid`.
    """
    rows = []
    for row in table.itertuples():
        rows.append(
            {
                ("", "row"): row.row,
                **{("", name): _text(getattr(row, name)) for name in ("primitive_set", "fusion", "strategy")},
                ("the paper", "accuracy (%)"): _number(row.paper_accuracy, 2),
                ("the paper", "GFLOPs"): _number(row.paper_gflops, 2),
                ("the paper", "MB"): _number(row.paper_memory_mb, 2),
                ("the paper", "CPU ms"): _number(row.paper_cpu_ms, 2),
                ("ours", "accuracy (%)"): results.spread(row.accuracy_mean, row.accuracy_sd),
                ("ours", "balanced (%)"): results.spread(
                    row.balanced_accuracy_mean, row.balanced_accuracy_sd, missing=""
                ),
                ("ours", "macro F1 (%)"): results.spread(row.f1_macro_mean, row.f1_macro_sd, missing=""),
                ("ours", "n"): str(int(row.n)),
                ("ours", "MMACs"): _number(row.mmacs, 1),
                ("ours", "MB"): _number(row.weights_mb, 2),
                ("ours", "CPU ms"): _number(row.cpu_ms, 2),
                ("ours", "search + training (min)"): _minutes(row.search_minutes, row.minutes),
            }
        )
    return (
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))
        .set_index(("", "row"))
        .rename_axis("row")
    )


def markdown(synthetic: pd.DataFrame, field: pd.DataFrame) -> str:
    """The paper's accuracy and ours on two collections, a line an experiment: mean ± sd and, in brackets, n seeds.

    Args:
        synthetic, field: of `grid`; rows that are not in the second are left empty there.
    """
    on_field = {row.row: row for row in field.itertuples()}
    return results.markdown(
        [
            {
                "row": row.row,
                "primitives": _text(row.primitive_set).replace("_", " "),
                "fusion": _text(row.fusion).replace("_", " "),
                "search": _text(row.strategy),
                "the paper, BIOSCAN-5M (%)": _number(row.paper_accuracy, 2),
                "ours, synthetic (%)": _counted(row),
                "ours, field photographs (%)": _counted(on_field[row.row]) if row.row in on_field else "",
            }
            for row in synthetic.itertuples()
        ]
    )


def left(table: pd.DataFrame) -> str:
    """What was not run, or not with every seed, and why: a line for rows of one reason; "" where nothing is left.

    Args:
        table: of `grid`.
    """
    reasons = (
        table.dropna(subset="not_done")
        .query("not_done != ''")
        .groupby("not_done", sort=False)["row"]
        .agg(list)
    )
    return "\n".join(f"{', '.join(rows)}: {reason}" for reason, rows in reasons.items())


def gains(table: pd.DataFrame, rows: Sequence[str], against: str = "E007") -> pd.DataFrame:
    """How many points of accuracy each of these rows is above another, and the standard error of that.

    label, strategy, gain, error, paper_gain. The seeds of two rows are taken as independent: they share their data, not
    what was searched. gain is missing where one of the two was not run; error where one has a single seed.

    Args:
        table: of `grid`.
    """
    by_row = table.set_index("row")
    start, other = by_row.loc[against], by_row.loc[list(rows)]
    variance = [
        frame["accuracy_sd"] ** 2 / np.maximum(frame["n"].astype(float), 1) for frame in (other, start)
    ]
    return pd.DataFrame(
        {
            "label": other.index + " " + other["strategy"],
            "strategy": other["strategy"],
            "gain": other["accuracy_mean"] - start["accuracy_mean"],
            "error": np.sqrt(variance[0] + variance[1]),
            "paper_gain": other["paper_accuracy"] - start["paper_accuracy"],
        }
    )


def _counted(row: Any) -> str:
    return results.spread(row.accuracy_mean, row.accuracy_sd) + (f" ({int(row.n)})" if row.n else "")


def _minutes(search: float, training: float) -> str:
    return "" if pd.isna(training) else f"{search:.1f} + {training:.1f}"


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)
