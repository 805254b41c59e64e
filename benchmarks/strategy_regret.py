"""Does each search strategy search better than chance? A space small enough to know all of it, and many cheap repeats.

    table    every genotype of one cell over the reduced primitive set, each trained with two seeds: 6^3 = 216 genotypes, 210
             of them with a path, 169 that differ (isomorphic ones are one). Killed and started again, it goes on.
    regret   each strategy searches that space many times, its scores looked up in the table. A search sees one of the
             two trainings of a genotype; its regret is the highest mean over both, less that of the genotype it holds to
             be the best. The supernets of gradient and enas train for real, so these two have few repeats, or none.

    python benchmarks/strategy_regret.py table --out data/results/regret_table.csv
    python benchmarks/strategy_regret.py regret --out data/results/regret.csv

Children see the embedded specimens as images alone, at 32 pixels: metadata would blur what the cells are worth.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import wilcoxon

from bionas.genotype import CellGenotype, Genotype
from bionas.network import PRESETS, NetworkConfig
from bionas.strategies import STRATEGIES, PlanEvaluator, SearchResult, Space, TableEvaluator
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.configuration import Plan, plan
from bionas.training.runs import commit

PRESETS["one-cell"] = NetworkConfig(image_size=32, channels=8, cells=1, stem_stride=2)
SEEDS = (0, 1)
EPOCHS = 4
LEARNING_RATE = 1e-2
"""Three times the default: a child has few steps to show what it is worth."""

CHOSEN, REFUSED = "better than chance", "no better than chance"
LEVEL = 0.05
LOOKED_UP = [name for name, one in STRATEGIES.items() if one.needs == "children"]
SUPERNETS = [name for name, one in STRATEGIES.items() if one.needs == "supernet"]


def planned(seed: int, run_dir: str | Path | None, **choices: Any) -> Plan:
    """The plan of all children and supernets here; `seed` is that of their training."""
    return plan(
        "quick",
        **{
            "preset": "one-cell",
            "primitive_set": "reduced",
            "metadata": "none",
            "batch_size": 32,
            "device": "cpu",
            "learning_rate": LEARNING_RATE,
            "seed": seed,
            "run_dir": run_dir,
            **choices,
        },
    )


# --- the table --------------------------------------------------------------------------------------------------------


def make_table(evaluators: Sequence[tuple[int, PlanEvaluator]], limit: int | None = None) -> pd.DataFrame:
    """One row a genotype and seed: key, operations, genotypes, seed, val_accuracy, val_balanced_accuracy, images, seconds.

    Args:
        evaluators: (seed, evaluator) pairs over one space.
        limit: the first so many genotypes only.
    """
    space = evaluators[0][1].space()
    disguises = counted(space)
    genotypes = list(itertools.islice(space.all(), limit))
    rows = []
    with progress(total=len(genotypes) * len(evaluators), desc="children", unit="training") as bar:
        for genotype in genotypes:
            for seed, evaluate in evaluators:
                score = evaluate(genotype)
                rows.append(
                    {
                        "key": genotype.key(),
                        "operations": " / ".join(genotype.cells[0].operations),
                        "genotypes": disguises[genotype.key()],
                        "seed": seed,
                        "val_accuracy": score.value,
                        "val_balanced_accuracy": score.columns["val_balanced_accuracy"],
                        "images": score.images,
                        "seconds": score.columns["training_seconds"],
                    }
                )
                bar.update()
    return pd.DataFrame(rows)


def counted(space: Space) -> Counter[str]:
    """How many genotypes of one cell are each key: with a path, isomorphic ones counted."""
    triples = itertools.product(space.primitives, repeat=3)
    cells = (CellGenotype(names, space.reductions[0]) for names in triples if names[:2] != ("none", "none"))
    return Counter(Genotype((cell,), space.primitive_set).key() for cell in cells)


# --- regret -----------------------------------------------------------------------------------------------------------


def regret_of(result: SearchResult, table: TableEvaluator, budgets: Sequence[int]) -> np.ndarray:
    """After each number of candidates (images in the trace, divided by what one costs): how much better the best is.

    NaN before the first answer. A search that ended keeps its answer.
    """
    trace = result.trace
    supernet = "alpha_entropy" in trace  # its answer is the last one derived, not the best row
    found = np.full(len(budgets), np.nan)
    for i, budget in enumerate(budgets):
        seen = trace[trace["images"] <= budget * table.images]
        if len(seen):
            held = seen.iloc[-1] if supernet else seen.loc[seen["score"].idxmax()]
            found[i] = table.best() - table.mean(Genotype.from_json(held["genotype"]))
    return found


def look_up(
    frame: pd.DataFrame, space: Space, budgets: Sequence[int], repeats: int, column: str = "val_accuracy"
) -> dict[str, np.ndarray]:
    """Strategy -> regret (repeats, budgets), every repeat with its own seed and its own draw of trainings, alike for all."""
    regrets = {name: np.full((repeats, len(budgets)), np.nan) for name in LOOKED_UP}
    with progress(total=repeats * len(regrets), desc="searches", unit="search") as bar:
        for name, repeat in itertools.product(regrets, range(repeats)):
            table = TableEvaluator.from_frame(frame, seed=repeat, column=column)
            result = STRATEGIES[name](space, table, max(budgets) * table.images, seed=repeat)
            regrets[name][repeat] = regret_of(result, table, budgets)
            bar.update()
    return regrets


def train_supernets(
    frame: pd.DataFrame,
    evaluate: PlanEvaluator,
    candidates: int,
    budgets: Sequence[int],
    seeds: int,
    folder: Path,
    column: str = "val_accuracy",
) -> dict[str, np.ndarray]:
    """Strategy -> regret (seeds, budgets) of gradient and enas, their answers looked up; NaN past their budget."""
    table, space = TableEvaluator.from_frame(frame, column=column), evaluate.space()
    past = np.array(budgets) > candidates
    regrets = {}
    for name in SUPERNETS:
        regrets[name] = np.full((seeds, len(budgets)), np.nan)
        for seed in range(seeds):
            result = STRATEGIES[name](
                space, evaluate, candidates * table.images, seed, folder=folder / f"{name}-{seed}"
            )
            regrets[name][seed] = regret_of(result, table, budgets)
        regrets[name][:, past] = np.nan
    return regrets


def summarised(regrets: dict[str, np.ndarray], budgets: Sequence[int], images: int) -> pd.DataFrame:
    """A row a strategy and budget: mean and quartiles of its regret beside random's, and a verdict on the whole curve."""
    rows = []
    for name in STRATEGIES:
        curves = regrets.get(name, np.full((0, len(budgets)), np.nan))
        decided = verdict(name, curves, regrets["random"])
        for i, budget in enumerate(budgets):
            at = curves[:, i][~np.isnan(curves[:, i])]
            quartiles = np.quantile(at, [0.25, 0.5, 0.75]) if len(at) else [np.nan] * 3
            rows.append(
                {
                    "strategy": name,
                    "candidates": budget,
                    "images": budget * images,
                    "repeats": len(at),
                    "regret_mean": at.mean() if len(at) else np.nan,
                    **dict(zip(("regret_q25", "regret_median", "regret_q75"), quartiles)),
                    "random_mean": np.nanmean(regrets["random"][:, i]),
                    "verdict": decided,
                }
            )
    return pd.DataFrame(rows)


def verdict(name: str, curves: np.ndarray, chance: np.ndarray) -> str:
    """Whether the mean regret over all budgets is below random's: Wilcoxon's signed-rank test over paired repeats.

    Pairs share the seed and what a training of each genotype scored. Few repeats are not tested.
    """
    if name == "random":
        return "chance itself"
    if not len(curves) or np.isnan(curves).all():
        return "not run"
    if name == "fixed":
        return "no search"
    if len(curves) != len(chance):
        return f"{len(curves)} seeds: too few to test"
    difference = np.nanmean(curves, axis=1) - np.nanmean(chance, axis=1)
    if not difference.any():
        return f"{REFUSED} (the same)"
    p = wilcoxon(difference, alternative="less").pvalue
    return f"{CHOSEN if p < LEVEL else REFUSED} (p = {p:.2g}, n = {len(curves)})"


# --- the command ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="train every genotype")
    table.add_argument("--epochs", type=int, default=EPOCHS)
    table.add_argument("--limit", type=int, help="only the first so many genotypes, for a trial")
    table.add_argument("--out", type=Path, required=True, help="the CSV to write")
    regret = commands.add_parser("regret", help="search the table")
    regret.add_argument("--table", type=Path, default=Path("data/results/regret_table.csv"))
    regret.add_argument("--column", default="val_accuracy", help="the score that is searched for")
    regret.add_argument("--repeats", type=int, default=60)
    regret.add_argument("--candidates", type=int, default=100, help="the largest budget, in candidates")
    regret.add_argument(
        "--supernet-seeds", type=int, default=0, help="searches of gradient and enas; 0: not run"
    )
    regret.add_argument("--supernet-candidates", type=int, default=20, help="their budget, in candidates")
    regret.add_argument("--epochs", type=int, default=EPOCHS, help="of the children in the table")
    regret.add_argument("--out", type=Path, required=True, help="the CSV to write")
    for one in (table, regret):
        one.add_argument("--threads", type=int, default=1)
        one.add_argument("--run-dir", help="where trainings are kept")
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    born = {"source": "synthetic", "code": commit()}

    if a.command == "table":
        evaluators = [(seed, PlanEvaluator(planned(seed, a.run_dir), a.epochs)) for seed in SEEDS]
        frame = make_table(evaluators, a.limit)
        limit = "" if a.limit is None else f" --limit {a.limit}"
        command = f"python benchmarks/strategy_regret.py table --epochs {a.epochs}{limit} --out {a.out}"
        files.write_csv(a.out, frame.round(4).assign(**born, threads=a.threads, command=command))
        print(described(frame))
        return

    frame, space = pd.read_csv(a.table), Space((True,), "reduced")
    budgets = sorted({*range(5, a.candidates + 1, 5), *(n for n in (1, 2, 3) if n <= a.candidates)})
    regrets = look_up(frame, space, budgets, a.repeats, a.column)
    if a.supernet_seeds:
        evaluate = PlanEvaluator(planned(0, a.run_dir), a.epochs)
        folder = Path(a.run_dir or tempfile.mkdtemp()) / "strategy-regret"
        options = (a.supernet_candidates, budgets, a.supernet_seeds, folder, a.column)
        regrets |= train_supernets(frame, evaluate, *options)
    summary = summarised(regrets, budgets, int(frame["images"].iloc[0]))
    supernets = f" --supernet-seeds {a.supernet_seeds} --supernet-candidates {a.supernet_candidates}"
    command = (
        f"python benchmarks/strategy_regret.py regret --column {a.column} --repeats {a.repeats} "
        f"--candidates {a.candidates}{supernets if a.supernet_seeds else ''} --out {a.out}"
    )
    files.write_csv(a.out, summary.round(5).assign(column=a.column, **born, command=command))
    last = summary.dropna(subset="regret_mean").groupby("strategy", sort=False).tail(1)
    print(last[["strategy", "candidates", "repeats", "regret_mean", "random_mean"]].to_string(index=False))
    print(
        "\n".join(
            f"{name}: {one}"
            for name, one in summary.groupby("strategy", sort=False)["verdict"].first().items()
        )
    )


def described(frame: pd.DataFrame) -> str:
    """How far genotypes differ, and how far two trainings of one do: what a search can hope for."""
    by_key = frame.groupby("key")["val_accuracy"]
    spread = f"sd of the genotypes' means {by_key.mean().std():.4f}"
    noise = (by_key.var().mean() / by_key.size().mean()) ** 0.5
    return (
        f"{by_key.ngroups} genotypes, {len(frame)} trainings of {frame['images'].iloc[0]:,} images, "
        f"{frame['seconds'].sum() / 60:.1f} minutes of training\n"
        f"validation accuracy {frame['val_accuracy'].min():.3f} to {frame['val_accuracy'].max():.3f}; {spread}, of "
        f"which {noise:.4f} is the chance of a training"
    )


if __name__ == "__main__":
    main()
