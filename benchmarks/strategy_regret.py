"""Does each search strategy search better than random search? A space small enough to enumerate, and many cheap repeats.

    table    every genotype of one cell over the reduced primitive set: 6^3 = 216 genotypes, 210 of them with a path, 169
             that differ (isomorphic ones are one), each trained with several seeds and for several numbers of epochs. It
             resumes where it was interrupted, and an existing table is extended by what it lacks.
    regret   each strategy searches that space many times, its scores looked up in the table. A search sees one of the
             trainings of a genotype; its regret is the highest mean over all, less that of the genotype it holds to be
             the best. Multi-fidelity strategies need a table with shorter trainings. Supernets are trained for real.

    python benchmarks/strategy_regret.py table --seeds 0 1 2 3 --epochs 1 2 4 --out data/results/regret_table.csv
    python benchmarks/strategy_regret.py regret --out data/results/regret.csv

Children see the embedded specimens as images alone, at 32 pixels: metadata would hide what the cells are worth.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import wilcoxon

from bionas.errors import SearchError
from bionas.genotype import CellGenotype, Genotype
from bionas.network import PRESETS, NetworkConfig
from bionas.strategies import STRATEGIES, PlanEvaluator, SearchResult, Space, TableEvaluator
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.configuration import Plan, plan
from bionas.training.runs import commit

PRESETS["one-cell"] = NetworkConfig(image_size=32, channels=8, cells=1, stem_stride=2)
SEEDS = (0, 1, 2, 3)
EPOCHS = 4
"""Of a whole training; a table may have shorter ones for multi-fidelity strategies."""
LEARNING_RATE = 1e-2
"""Three times the default, since a child takes few steps."""

CHOSEN, REFUSED = "better than chance", "no better than chance"
LEVEL = 0.05
SUPERNETS = [name for name, one in STRATEGIES.items() if one.needs == "supernet"]
OPTIONS = {"pc_darts": {"share": 4}}


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


def make_table(
    evaluators: Sequence[tuple[int, PlanEvaluator]],
    limit: int | None = None,
    known: pd.DataFrame | None = None,
    keep: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """One row per genotype, seed and length of training: key, operations, genotypes, seed, epochs, val_accuracy,
    val_balanced_accuracy, images, seconds.

    Args:
        evaluators: (seed, evaluator) pairs over one space.
        limit: only the first so many genotypes.
        known: rows of an earlier table, which are kept and not trained again.
        keep: called with the table after every genotype.
    """
    space = evaluators[0][1].space()
    disguises = counted(space)
    genotypes = list(itertools.islice(space.all(), limit))
    rows = [] if known is None else known.to_dict("records")
    there = {(row["key"], row["seed"], row["epochs"]) for row in rows}
    with progress(total=len(genotypes) * len(evaluators), desc="children", unit="training") as bar:
        for genotype in genotypes:
            for seed, evaluate in evaluators:
                bar.update()
                if (genotype.key(), seed, evaluate.epochs) in there:
                    continue
                score = evaluate(genotype)
                rows.append(
                    {
                        "key": genotype.key(),
                        "operations": " / ".join(genotype.cells[0].operations),
                        "genotypes": disguises[genotype.key()],
                        "seed": seed,
                        "epochs": evaluate.epochs,
                        "val_accuracy": score.value,
                        "val_balanced_accuracy": score.columns["val_balanced_accuracy"],
                        "images": score.images,
                        "seconds": score.columns["training_seconds"],
                    }
                )
            if keep is not None:
                keep(pd.DataFrame(rows))
    return pd.DataFrame(rows)


def read_table(path: Path) -> pd.DataFrame:
    """A table of trainings; those made before tables had several lengths are of `EPOCHS`."""
    frame = pd.read_csv(path)
    return frame if "epochs" in frame else frame.assign(epochs=EPOCHS)


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
            if "epochs" in seen:  # scores of different lengths of training are not compared
                seen = seen[seen["epochs"] == seen["epochs"].max()]
            held = seen.iloc[-1] if supernet else seen.loc[seen["score"].idxmax()]
            found[i] = table.best() - table.mean(Genotype.from_json(held["genotype"]))
    return found


def tables_of(
    frame: pd.DataFrame, seed: int, column: str, networks: PlanEvaluator | None = None
) -> TableEvaluator:
    """The trainings of full length as an evaluator, with the shorter ones as its fidelities where there are any."""
    frame = frame if "epochs" in frame else frame.assign(epochs=EPOCHS)
    by_length = {
        int(epochs): TableEvaluator.from_frame(rows, seed=seed, column=column)
        for epochs, rows in frame.groupby("epochs")
    }
    full = by_length[max(by_length)]
    fidelities = by_length if len(by_length) > 1 else None
    return TableEvaluator(full.scores, full.images, seed, fidelities=fidelities, networks=networks)


def look_up(
    frame: pd.DataFrame,
    space: Space,
    budgets: Sequence[int],
    repeats: int,
    column: str = "val_accuracy",
    networks: PlanEvaluator | None = None,
) -> dict[str, np.ndarray]:
    """Strategy -> regret (repeats, budgets); a repeat has its own seed and its own draw of trainings, alike for all.

    Only strategies whose needs the table meets: shorter trainings for multi-fidelity ones, `networks` for the controls.
    """
    offered = tables_of(frame, 0, column, networks).offers
    names = [name for name, one in STRATEGIES.items() if one.needs in offered]
    regrets = {name: np.full((repeats, len(budgets)), np.nan) for name in names}
    with progress(total=repeats * len(regrets), desc="searches", unit="search") as bar:
        for name, repeat in itertools.product(regrets, range(repeats)):
            table = tables_of(frame, repeat, column, networks)
            options = _rungs(table) if STRATEGIES[name].needs == "fidelities" else {}
            result = STRATEGIES[name](space, table, max(budgets) * table.images, seed=repeat, **options)
            regrets[name][repeat] = regret_of(result, table, budgets)
            bar.update()
    return regrets


def _rungs(table: TableEvaluator) -> dict[str, Any]:
    """eta of the lengths of training in a table, each of which is that many times the one before.

    Raises:
        SearchError: lengths that do not grow by one factor.
    """
    lengths = sorted(table.fidelities)
    eta = lengths[1] / lengths[0]
    if any(longer / shorter != eta for shorter, longer in itertools.pairwise(lengths)):
        raise SearchError(f"the lengths of training {lengths} do not grow by one factor, as in 1, 2, 4.")
    return {"eta": eta}


def train_supernets(
    frame: pd.DataFrame,
    evaluate: PlanEvaluator,
    candidates: int,
    budgets: Sequence[int],
    seeds: int,
    folder: Path,
    column: str = "val_accuracy",
) -> dict[str, np.ndarray]:
    """Strategy -> regret (seeds, budgets) of all supernet strategies, their answers looked up; NaN past their budget."""
    table, space = tables_of(frame, 0, column), evaluate.space()
    past = np.array(budgets) > candidates
    regrets = {}
    for name in SUPERNETS:
        regrets[name] = np.full((seeds, len(budgets)), np.nan)
        for seed in range(seeds):
            options = OPTIONS.get(name, {}) | {"folder": folder / f"{name}-{seed}"}
            result = STRATEGIES[name](space, evaluate, candidates * table.images, seed, **options)
            regrets[name][seed] = regret_of(result, table, budgets)
        regrets[name][:, past] = np.nan
    return regrets


def summarised(regrets: dict[str, np.ndarray], budgets: Sequence[int], images: int) -> pd.DataFrame:
    """One row per strategy and budget: mean and quartiles of its regret beside random's, and a verdict on the whole curve."""
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
    table.add_argument("--epochs", type=int, nargs="+", default=[EPOCHS], help="lengths of training: 1 2 4")
    table.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="trainings of each genotype")
    table.add_argument("--limit", type=int, help="only the first so many genotypes, for a trial")
    table.add_argument("--out", type=Path, required=True, help="the CSV to write")
    regret = commands.add_parser("regret", help="search the table")
    regret.add_argument("--table", type=Path, default=Path("data/results/regret_table.csv"))
    regret.add_argument("--column", default="val_accuracy", help="the score that is searched for")
    regret.add_argument("--repeats", type=int, default=60)
    regret.add_argument("--candidates", type=int, default=100, help="the largest budget, in candidates")
    regret.add_argument(
        "--supernet-seeds", type=int, default=0, help="searches of each supernet strategy; 0: not run"
    )
    regret.add_argument("--supernet-candidates", type=int, default=20, help="their budget, in candidates")
    regret.add_argument(
        "--controls", action="store_true", help="also most_macs and synflow, which build networks"
    )
    regret.add_argument("--epochs", type=int, default=EPOCHS, help="of the children in the table")
    regret.add_argument("--out", type=Path, required=True, help="the CSV to write")
    for one in (table, regret):
        one.add_argument("--threads", type=int, default=1)
        one.add_argument("--run-dir", help="where trainings are kept")
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    provenance = {"source": "synthetic", "code": commit()}

    if a.command == "table":
        evaluators = [
            (seed, PlanEvaluator(planned(seed, a.run_dir), epochs)) for epochs in a.epochs for seed in a.seeds
        ]
        limit = "" if a.limit is None else f" --limit {a.limit}"
        lengths, seeds = " ".join(map(str, a.epochs)), " ".join(map(str, a.seeds))
        command = f"python benchmarks/strategy_regret.py table --seeds {seeds} --epochs {lengths}{limit} --out {a.out}"
        marks = provenance | {"threads": a.threads, "command": command}

        def keep(frame: pd.DataFrame) -> None:
            for column, value in marks.items():  # rows of an earlier table keep theirs
                frame[column] = frame[column].fillna(value) if column in frame else value
            files.write_csv(a.out, frame.round(4))

        frame = make_table(evaluators, a.limit, read_table(a.out) if a.out.exists() else None, keep)
        print(described(frame[frame["epochs"] == frame["epochs"].max()]))
        return

    frame, space = read_table(a.table), Space((True,), "reduced")
    budgets = sorted({*range(5, a.candidates + 1, 5), *(n for n in (1, 2, 3) if n <= a.candidates)})
    networks = PlanEvaluator(planned(0, a.run_dir), a.epochs) if a.controls or a.supernet_seeds else None
    regrets = look_up(frame, space, budgets, a.repeats, a.column, networks if a.controls else None)
    if a.supernet_seeds:
        folder = Path(a.run_dir or tempfile.mkdtemp()) / "strategy-regret"
        options = (a.supernet_candidates, budgets, a.supernet_seeds, folder, a.column)
        regrets |= train_supernets(frame, networks, *options)
    summary = summarised(regrets, budgets, int(frame["images"].max()))
    supernets = f" --supernet-seeds {a.supernet_seeds} --supernet-candidates {a.supernet_candidates}"
    command = (
        f"python benchmarks/strategy_regret.py regret --column {a.column} --repeats {a.repeats} "
        f"--candidates {a.candidates}{' --controls' if a.controls else ''}{supernets if a.supernet_seeds else ''} "
        f"--out {a.out}"
    )
    files.write_csv(a.out, summary.round(5).assign(column=a.column, **provenance, command=command))
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
