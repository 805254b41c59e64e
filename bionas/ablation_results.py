"""What is kept of Table I's grids in `data/results/`, as notebook 05 reads it. No run is needed, and none is invented.

A table that was not made yet, or a row that is not in it, says `not run` with the command that makes it. Published
figures stay in columns of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bionas import places, published
from bionas.ablations import table_one
from bionas.errors import BionasError

COMMANDS = {
    "ablation_synthetic": "bionas ablate --rows E001-E015 --seeds 3 --mode quick --out ablation_synthetic",
    "ablation_field_orders": (
        "bionas ablate --rows E005-E012 --seeds 3 --mode quick -p source=folder -p data_dir=FOLDER -p metadata=none "
        "--out ablation_field_orders"
    ),
    "ablation_synthetic_runs": "bionas ablate --rows E001-E015 --seeds 3 --mode quick --out ablation_synthetic",
    "regret_table": "python benchmarks/strategy_regret.py table --out data/results/regret_table.csv",
    "regret": "python benchmarks/strategy_regret.py regret --out data/results/regret.csv",
    "skip_guard": "python benchmarks/skip_guard.py --out data/results/skip_guard.csv",
    "skip_guard_epochs": "python benchmarks/skip_guard.py --out data/results/skip_guard.csv",
    "table1_cost": "python benchmarks/table1_cost.py --out data/results",
    "table1_cost_genotypes": "python benchmarks/table1_cost.py --out data/results",
    "table1_cost_lines": "python benchmarks/table1_cost.py --out data/results",
}
"""What makes each table, where it is not there yet; a table that is there carries its own command."""


def read(name: str) -> pd.DataFrame | None:
    """`data/results/NAME.csv`; None, and one printed line with the command, where it was not made yet."""
    try:
        return _table(name)
    except BionasError:
        print(f"not run: {COMMANDS[name]}")
        return None


def grid(name: str, rows: Sequence[str]) -> pd.DataFrame:
    """The summary of a grid with each of these rows of Table I: those not in it have n = 0 and `not_done` says why.

    The majority class is first where the grid was begun. Columns are those of `ablation_tables.summary`.
    """
    told = f"not run: {COMMANDS[name]}"
    paper = published.table("table1_ablation").set_index("exp_id").select_dtypes("number").add_prefix("paper_")
    try:
        found = _table(name)
    except BionasError:
        found = pd.DataFrame(columns=["row", "primitive_set", "fusion", "strategy", "n", "not_done", *paper.columns])
    absent = [
        {"row": row.name, "primitive_set": row.primitive_set, "fusion": row.fusion, "strategy": row.strategy, "n": 0,
         "not_done": told, **paper.loc[row.name]}
        for row in table_one().values() if row.name in rows and row.name not in set(found["row"])
    ]  # fmt: skip
    kept = found[found["row"].isin(["majority class", *rows])]
    table = pd.concat([part for part in (kept, pd.DataFrame(absent)) if len(part)], ignore_index=True)
    measures = ("accuracy", "balanced_accuracy", "f1_macro")
    needed = [f"{m}_{part}" for m in measures for part in ("mean", "sd")] + ["mmacs", "weights_mb", "cpu_ms"]
    table = table.reindex(columns=[*table, *(column for column in needed if column not in table)])
    order = {"majority class": -1, **{row: i for i, row in enumerate(table_one())}}
    return table.sort_values("row", key=lambda names: names.map(order), ignore_index=True)


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's table and ours as text, a row an experiment: what was printed; mean ± sd over n seeds, and cost.

    Args:
        table: of `grid`.
    """
    rows = []
    for row in table.itertuples():
        rows.append({
            ("", "row"): row.row,
            **{("", name): _text(getattr(row, name)) for name in ("primitive_set", "fusion", "strategy")},
            ("the paper", "accuracy (%)"): _number(row.paper_accuracy, 2),
            ("the paper", "GFLOPs"): _number(row.paper_gflops, 2),
            ("the paper", "MB"): _number(row.paper_memory_mb, 2),
            ("the paper", "CPU ms"): _number(row.paper_cpu_ms, 2),
            ("ours", "accuracy (%)"): _spread(row.accuracy_mean, row.accuracy_sd) or "not run",
            ("ours", "balanced (%)"): _spread(row.balanced_accuracy_mean, row.balanced_accuracy_sd),
            ("ours", "macro F1 (%)"): _spread(row.f1_macro_mean, row.f1_macro_sd),
            ("ours", "n"): str(int(row.n)),
            ("ours", "MMACs"): _number(row.mmacs, 1),
            ("ours", "MB"): _number(row.weights_mb, 2),
            ("ours", "CPU ms"): _number(row.cpu_ms, 2),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0])).set_index(("", "row")).rename_axis("row")


def left(table: pd.DataFrame) -> str:
    """What was not run, or not with every seed, and why: a line for rows of one reason; "" where nothing is left.

    Args:
        table: of `grid`.
    """
    reasons = table.dropna(subset="not_done").query("not_done != ''").groupby("not_done", sort=False)["row"].agg(list)
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
    variance = [frame["accuracy_sd"] ** 2 / np.maximum(frame["n"].astype(float), 1) for frame in (other, start)]
    return pd.DataFrame({
        "label": other.index + " " + other["strategy"],
        "strategy": other["strategy"],
        "gain": other["accuracy_mean"] - start["accuracy_mean"],
        "error": np.sqrt(variance[0] + variance[1]),
        "paper_gain": other["paper_accuracy"] - start["paper_accuracy"],
    })  # fmt: skip


def birth(table: pd.DataFrame) -> str:
    """Where a table comes from, in a line: source, code, budget where it has one."""
    known = [name for name in ("source", "mode", "budget", "code") if name in table and table[name].notna().any()]
    whole = {name: table[name].dropna().infer_objects().convert_dtypes().unique() for name in known}
    said = [f"{name} {'; '.join(map(str, values))}" for name, values in whole.items()]
    return ", ".join(said) or "not run"


def _table(name: str) -> pd.DataFrame:
    return pd.read_csv(places.data(f"results/{name}.csv"), dtype={"code": str})  # a commit may look like a number


def _spread(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.2f}" if pd.isna(sd) else f"{mean:.2f} ± {sd:.2f}"


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)
