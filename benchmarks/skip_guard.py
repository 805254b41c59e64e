"""Do skips take over a search, and what do a warm-up and a stop change? A search and a training a row, several seeds.

Searches of each seed, alike in everything else: as published; with a warm-up, in which w alone is trained; ended as
soon as skip_connect leads more edges than a limit (`max_skips`); and both, for each limit. What each derives is trained from
scratch and tested. Embedded specimens as images alone: metadata would blur what the cells are worth. Adam moves theta at
ten times the paper's rate, or the few hundred steps of a small collection would leave all alphas near where they began.

    python benchmarks/skip_guard.py --out data/results/skip_guard.csv

writes three tables; killed and started again it goes on with the searches and trainings that are not finished:

    skip_guard.csv         a row a kind of search: mean and spread over seeds, the majority class first
    skip_guard_runs.csv    a row a search and training
    skip_guard_epochs.csv  a row an epoch of each search: how many edges skip_connect leads
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bionas.errors import TrainingError
from bionas.genotype import EDGES
from bionas.studies import report
from bionas.system import files
from bionas.training import experiments
from bionas.training.experiments import Plan
from bionas.training.runs import Run
from bionas.training.skips import SKIP, leading_skips

COUNTED = ("skips_at_the_end", "skips_derived", "searched_epochs", "derived_from_epoch")


def kinds(plan: Plan, warmup_epochs: int, limits: Sequence[int]) -> dict[str, Plan]:
    """The searches by name: two that run to their end, and two a limit."""
    choices = {"as published": (0, None), "warm-up": (warmup_epochs, None)}
    for most in limits:
        choices |= {f"stop above {most}": (0, most), f"warm-up, stop above {most}": (warmup_epochs, most)}
    return {
        kind: dataclasses.replace(plan, warmup_epochs=epochs, max_skips=most)
        for kind, (epochs, most) in choices.items()
    }


def measured(plans: dict[str, Plan], seeds: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row a search and training, a row an epoch of each search). What is finished is only read.

    A search in which skips lead too many edges after every epoch derives nothing: its row says so in `note`.
    """
    rows, epochs = [], []
    for seed in seeds:
        for kind, plan in plans.items():
            plan = dataclasses.replace(plan, seed=seed)
            options = {"warmup_epochs": plan.warmup_epochs, "max_skips": plan.max_skips}
            try:
                searched = experiments.search(plan)
            except TrainingError as error:
                if plan.max_skips is None:
                    raise
                identity = {"model": kind, "augment": plan.augment, "seed": seed, **options}
                rows.append(identity | {"note": f"failed: {str(error).split('. ')[0]}"})  # not where it lies
                continue
            skips, identity = leading_skips(searched.alphas), {"model": kind, "seed": seed, **options}
            epochs += [{**identity, "epoch": epoch, "leading_skips": n} for epoch, n in skips.items()]
            rows.append(row(kind, searched, experiments.retrain(plan, searched.genotype), skips) | options)
    return pd.DataFrame(rows), pd.DataFrame(epochs)


def row(kind: str, searched: Run, derived: Run, skips: pd.Series) -> dict[str, Any]:
    """A search and what came of it; counts are of edges, `skips_derived` those of the genotype."""
    chosen = [name for cell in searched.genotype.cells for name in cell.operations]
    return report.run_row(kind, derived, searched) | {
        "skips_at_the_end": int(skips.iloc[-1]),
        "skips_most": int(skips.max()),
        "skips_derived": chosen.count(SKIP),
        "searched_epochs": searched.summary["epochs"],
        "derived_from_epoch": searched.summary["derived_from_epoch"],
        "search_images": searched.summary["images_seen"],
        "stopped": searched.summary["stopped"],
        "note": "",
    }


def summary(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """One row per kind of search, as in `report.summary`, with mean counts and how many searches were stopped."""
    table = report.summary(rows, plan, command)
    groups = rows[rows["note"] == ""].groupby("model")
    means = groups[list(COUNTED)].mean().round(2)
    means["n_stopped"] = groups["stopped"].agg(lambda words: int((words != "").sum()))
    options = rows.groupby("model")[["warmup_epochs", "max_skips"]].first()
    return table.merge(options.join(means), how="left", left_on="model", right_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--search-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20, help="of the training of what was derived")
    parser.add_argument("--warmup-epochs", type=int, default=5, help="among the epochs of the search")
    parser.add_argument(
        "--max-skips", type=int, nargs="+", help="limits (default: a quarter of the edges, and none)"
    )
    parser.add_argument("--theta-learning-rate", type=float, default=3e-3, help="the paper's is 3e-4")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run-dir", help="where searches and trainings are kept")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write, and two beside it")
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    plan = experiments.plan(
        a.mode,
        metadata="none",
        search_epochs=a.search_epochs,
        epochs=a.epochs,
        theta_learning_rate=a.theta_learning_rate,
        device="cpu",
        run_dir=a.run_dir,
    )
    edges = plan.network().cells * len(EDGES)
    limits = a.max_skips or [edges // 4, 0]
    rows, epochs = measured(kinds(plan, a.warmup_epochs, limits), a.seeds)
    command = (
        f"python benchmarks/skip_guard.py --mode {a.mode} --seeds {' '.join(map(str, a.seeds))} --search-epochs "
        f"{a.search_epochs} --epochs {a.epochs} --warmup-epochs {a.warmup_epochs} --max-skips {' '.join(map(str, limits))} "
        f"--theta-learning-rate {a.theta_learning_rate:g} --threads {a.threads} --out {a.out}"
    )
    common = {"edges": edges, "search_epochs": a.search_epochs, "theta_learning_rate": a.theta_learning_rate}
    table = summary(rows, plan, command)
    files.write_csv(a.out, table.assign(**common))
    files.write_csv(a.out.with_name(f"{a.out.stem}_runs.csv"), rows.assign(**common, command=command))
    epochs = epochs.assign(**common, source=plan.source, command=command)
    files.write_csv(a.out.with_name(f"{a.out.stem}_epochs.csv"), epochs)
    print(
        table[["model", "n_seeds", "accuracy_mean", "accuracy_sd", *COUNTED, "n_stopped"]].to_string(
            index=False
        )
    )


if __name__ == "__main__":
    main()
