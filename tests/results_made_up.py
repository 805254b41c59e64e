"""Tables in the columns of `data/results/`, with numbers made up for tests: nothing here was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bionas.studies import published
from bionas.studies.table1.grid import table_one


def grid(run: tuple[str, ...] = ("E007", "E009", "E012")) -> pd.DataFrame:
    """The summary of a grid in which these rows have three seeds: accuracy 60, 64, 61, ...; 10, 20, 30, ... MMACs."""
    accuracy = dict(zip(run, (60.0, 64.0, 61.0, 58.0, 63.0)))
    paper = (
        published.table("table1_ablation").set_index("exp_id").select_dtypes("number").add_prefix("paper_")
    )
    shares = ("accuracy", "balanced_accuracy", "f1_macro")
    table = [{"row": "majority class", "n": 0, **{f"{share}_mean": 42.5 for share in shares}}]
    for row in table_one().values():
        line = {
            "row": row.name,
            "primitive_set": row.primitive_set,
            "fusion": row.fusion,
            "strategy": row.strategy,
        }
        line |= {"n": 0, "not_done": "seed 0 waiting; seed 1 waiting; seed 2 waiting", **paper.loc[row.name]}
        if row.name in run:
            line |= {f"{share}_mean": accuracy[row.name] for share in shares} | {
                f"{share}_sd": 1.5 for share in shares
            }
            cost = 10.0 * (1 + run.index(row.name))
            line |= {
                "n": 3,
                "not_done": "",
                "mmacs": cost,
                "weights_mb": cost / 16,
                "cpu_ms": cost / 4,
                "search_minutes": 2.5,
                "minutes": 0.5,
            }
        table.append(line)
    born = {
        "budget": 4096,
        "mode": "quick",
        "source": "synthetic, test split, 301 specimens",
        "code": "0123456789",
    }
    return pd.DataFrame(table).assign(**born, command="bionas ablate")


def gains() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": ["E005 reinforce", "E008 evolutionary", "E009 gradient"],
            "strategy": ["reinforce", "evolutionary", "gradient"],
            "gain": [np.nan, 0.5, 4.0],
            "error": [np.nan, 1.0, 1.2],
            "paper_gain": [2.18, -0.3, 7.07],
        }
    )


def regret() -> pd.DataFrame:
    def curve(strategy, values, repeats, verdict):
        return pd.DataFrame(
            {
                "strategy": strategy,
                "candidates": [1, 5, 10],
                "regret_mean": values,
                "repeats": repeats,
                "verdict": verdict,
            }
        )

    return pd.concat(
        [
            curve("random", [0.1, 0.06, 0.05], 60, "chance itself"),
            curve("evolutionary", [0.1, 0.05, 0.025], 60, "better than chance (p = 0.01, n = 60)"),
            curve("enas", [np.nan] * 3, 0, "not run"),
        ]
    )


def skips() -> pd.DataFrame:
    """Two seeds of a search that runs to its end and of one that is stopped after epoch 2."""
    rows = [("as published", seed, epoch, epoch + seed, None) for seed in (0, 1) for epoch in range(5)]
    rows += [("stop", seed, epoch, epoch + seed, 2) for seed in (0, 1) for epoch in range(4 - seed)]
    frame = pd.DataFrame(rows, columns=["model", "seed", "epoch", "leading_skips", "max_skips"])
    return frame.assign(edges=9, search_epochs=4)


def costs() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(genotypes, experiments, lines) of the cost benchmark; the network made by hand not counted yet."""
    generator = np.random.default_rng(0)
    genotypes = pd.DataFrame(
        {"primitive_set": ["full"] * 20 + ["reduced"] * 20, "gmacs": generator.uniform(1, 5, 40)}
    )
    genotypes["weights_mb"] = 14 * genotypes["gmacs"]
    paper = published.table("table1_ablation")
    sets = ["fixed" if row.strategy == "fixed" else row.primitive_set for row in table_one().values()]
    experiments = pd.DataFrame(
        {
            "exp_id": paper["exp_id"],
            "primitive_set": sets,
            "gmacs_median": [np.nan if s == "fixed" else 3.0 for s in sets],
            "weights_mb_median": [np.nan if s == "fixed" else 41.0 for s in sets],
            "paper_gflops": paper["gflops"],
            "paper_memory_mb": paper["memory_mb"],
        }
    )
    lines = pd.DataFrame(
        [{"points": "the paper's", "slope_mb_per_giga": 13.5, "intercept_mb": 0.5, "correlation": 0.99961}]
    )
    return genotypes, experiments, lines


def searches() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study of searches: its summary, and one row per search."""
    table = pd.DataFrame(
        {
            "strategy": ["majority class", "random", "halving", "gradient"],
            "n_searches": [0, 2, 2, 0],
            "balanced_accuracy": [8.3, 40.0, 44.0, None],
            "low": [None, 38.0, 42.0, None],
            "high": [None, 42.5, 46.0, None],
            "difference": [None, None, 4.0, None],
            "difference_low": [None, None, 1.0, None],
            "difference_high": [None, None, 7.0, None],
            "core_minutes": [None, 10.0, 9.5, None],
        }
    )
    shares = [0.39, 0.41, 0.43, 0.45]
    names = ["random"] * 2 + ["halving"] * 2
    return table, pd.DataFrame({"strategy": names, "seed": [0, 1] * 2, "balanced_accuracy": shares})


def stems() -> pd.DataFrame:
    """A study of stems: two models, one of them on two stages."""
    return pd.DataFrame(
        {
            "model": ["majority class", "random cells", "random cells", "whole network, frozen"],
            "stage": [None, 4, 6, None],
            "accuracy": [0.12, 0.72, 0.89, 0.9],
            "accuracy_sd": [0.0, 0.02, 0.01, 0.01],
            "milliseconds": [None, 12.0, 18.0, 17.0],
        }
    )


def error_curves() -> pd.DataFrame:
    """Errors by epoch of one network trained twice."""
    rows = [(seed, epoch) for seed in (0, 1) for epoch in (1, 2, 3)]
    errors = {"train_error": [0.6, 0.5, 0.4] * 2, "val_error": [0.7, 0.6, 0.6] * 2}
    return pd.DataFrame(rows, columns=["seed", "epoch"]).assign(model="SERAN", **errors)
