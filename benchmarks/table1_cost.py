"""What the networks of Table I cost, counted without computing, beside what the paper prints for them.

The paper gives GFLOPs and "Memory (MB)" for fifteen experiments and no sizes to count them from. Here random genotypes of
each primitive set are built at a preset and counted: MACs, fp32 weights and the peak memory of one inference. A fusion adds
the same to each of them, so it is counted once, on the genotype nearest to the medians. Networks see 20 orders, two
categorical fields (50 countries, 100 provinces) and five numbers. Three tables are written:

    table1_cost.csv            a row an experiment: medians with their quartiles, and the paper's figures in their own columns;
                               of the network made by hand (E012) its own cost
    table1_cost_genotypes.csv  a row a genotype
    table1_cost_lines.csv      memory fitted against GFLOPs: the paper's fifteen points, and ours

    python benchmarks/table1_cost.py --preset paper --genotypes 200 --out data/results
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bionas.fusion import FUSIONS
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, preset
from bionas.operators import PRIMITIVE_SETS
from bionas.strategies import Space
from bionas.strategies.fixed import manual_genotype
from bionas.studies import published
from bionas.studies.table1.grid import table_one
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.cost import cost
from bionas.training.runs import commit

CLASSES, VOCABULARY_SIZES, N_NUMERIC = 20, (50, 100), 5
COUNTED = ("gmacs", "weights_mb", "peak_mb")


def counted(size: str, genotype: Genotype, fusion: str = "concatenation") -> dict[str, Any]:
    """The cost of one network at a preset, in units of 1e9 MACs and 2**20 bytes."""
    config = preset(size)
    with torch.device("meta"):
        network = DerivedNetwork(genotype, config, CLASSES, VOCABULARY_SIZES, N_NUMERIC, fusion)
    found = cost(network, config.image_size, VOCABULARY_SIZES, N_NUMERIC)
    return {"parameters": found["parameters"], "gmacs": found["macs"] / 1e9} | {
        k: found[k] for k in COUNTED[1:]
    }


def drawn(size: str, primitives: str, seed: int) -> Genotype:
    """Random genotype number `seed` of a primitive set."""
    config = preset(size)
    return Genotype.random(config.cells, config.reductions, primitives, np.random.default_rng(seed))


def distributions(size: str, n: int) -> pd.DataFrame:
    """n random genotypes of each primitive set, fused by concatenation; a row each."""
    rows = []
    with progress(total=n * len(PRIMITIVE_SETS), unit="genotype") as bar:
        for primitives in PRIMITIVE_SETS:
            for seed in range(n):
                costs = counted(size, drawn(size, primitives, seed))
                rows.append({"primitive_set": primitives, "seed": seed, **costs})
                bar.update()
    return pd.DataFrame(rows)


def fusions(size: str, genotypes: pd.DataFrame) -> pd.DataFrame:
    """What each fusion adds to a network with concatenation, on the median genotype of the full set; indexed by fusion."""
    full = genotypes[genotypes["primitive_set"] == "full"]
    shares = full[list(COUNTED[:2])] / full[list(COUNTED[:2])].median()
    genotype = drawn(size, "full", int(full.loc[(shares - 1).abs().sum(axis=1).idxmin(), "seed"]))
    costs = {name: counted(size, genotype, name) for name in progress(list(FUSIONS), unit="fusion")}
    table = pd.DataFrame(costs).T[list(COUNTED)]
    return table - table.loc["concatenation"]


def by_hand(size: str) -> Genotype:
    """The network that no strategy searched for (E012; the paper does not say what its own is)."""
    return manual_genotype(Space(preset(size).reductions, "full"))


def experiments(size: str, genotypes: pd.DataFrame, added: pd.DataFrame) -> pd.DataFrame:
    """A row an experiment of Table I: what a random network of its set and fusion costs, and what the paper printed.

    Strategies choose within these distributions; what they choose is not known before they have searched. The network
    made by hand (E012) belongs to no distribution: it is one genotype, its own median, without quartiles.
    """
    rows = []
    for paper in published.table("table1_ablation").itertuples(index=False):
        row = table_one()[paper.exp_id]
        known = row.strategy == "fixed"
        of_set = genotypes[genotypes["primitive_set"] == row.primitive_set]
        of_set = pd.DataFrame([counted(size, by_hand(size))]) if known else of_set
        line = {
            "exp_id": row.name,
            "primitive_set": "fixed" if known else row.primitive_set,
            "fusion": row.fusion,
        }
        line |= {"strategy": paper.strategy, "n_genotypes": len(of_set)}
        for column in COUNTED:
            quartiles = (
                of_set[column].quantile([0.5] if known else [0.5, 0.25, 0.75]) + added.loc[row.fusion, column]
            )
            line |= dict(zip((f"{column}_{q}" for q in ("median", "q25", "q75")), quartiles))
            line[f"{column}_of_fusion"] = added.loc[row.fusion, column]
        rows.append(line | {"paper_gflops": paper.gflops, "paper_memory_mb": paper.memory_mb})
    return pd.DataFrame(rows)


def line(points: str, billions: pd.Series, mb: pd.Series) -> dict[str, Any]:
    """The least-squares line mb = slope x billions + intercept, and how far the points are from it.

    `scatter_pct` is the root mean square of the distance in per cent of what the line says.
    """
    slope, intercept = np.polyfit(billions, mb, 1)
    off = mb / (slope * billions + intercept) - 1
    return {
        "points": points,
        "n": len(mb),
        "slope_mb_per_giga": slope,
        "intercept_mb": intercept,
        "correlation": np.corrcoef(billions, mb)[0, 1],
        "scatter_pct": 100 * np.sqrt((off**2).mean()),
    }


def lines(genotypes: pd.DataFrame, by_experiment: pd.DataFrame) -> pd.DataFrame:
    """The line through the paper's fifteen points, and those through ours, read both ways."""
    full = genotypes[genotypes["primitive_set"] == "full"]
    ours = by_experiment[by_experiment["n_genotypes"] > 1].drop_duplicates(["primitive_set", "fusion"])
    return pd.DataFrame(
        [
            line(
                "the paper's experiments: memory, GFLOPs",
                by_experiment["paper_gflops"],
                by_experiment["paper_memory_mb"],
            ),
            line("random genotypes, full set: weights, GMACs", full["gmacs"], full["weights_mb"]),
            line("random genotypes, full set: peak, GMACs", full["gmacs"], full["peak_mb"]),
            line(
                "medians of our sets and fusions: weights, GMACs",
                ours["gmacs_median"],
                ours["weights_mb_median"],
            ),
        ]
    )


def median_interval(values: pd.Series, draws: int = 2000) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median: how much another such sample would differ."""
    values = values.to_numpy()
    resampled = values[np.random.default_rng(0).integers(len(values), size=(draws, len(values)))]
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--genotypes", type=int, default=200, help="of each primitive set")
    parser.add_argument("--out", type=Path, help="a folder to write the tables in")
    a = parser.parse_args()
    genotypes = distributions(a.preset, a.genotypes)
    added = fusions(a.preset, genotypes)
    by_experiment = experiments(a.preset, genotypes, added)
    fitted = lines(genotypes, by_experiment)
    full = genotypes[genotypes["primitive_set"] == "full"]
    for column, paper in (("gmacs", 2.95), ("weights_mb", 40.06)):
        low, high = median_interval(full[column])
        print(
            f"{column}: median {full[column].median():.2f}, 95 % [{low:.2f}, {high:.2f}]; the paper's E009: {paper}"
        )
    print(added.round(3).to_string(), fitted.round(4).to_string(index=False), sep="\n")
    if a.out:
        birth = {
            "preset": a.preset,
            "torch": torch.__version__,
            "code": commit(),
            "command": f"python benchmarks/table1_cost.py --preset {a.preset} --genotypes {a.genotypes} --out {a.out}",
        }
        for name, table in (("", by_experiment), ("_genotypes", genotypes), ("_lines", fitted)):
            files.write_csv(a.out / f"table1_cost{name}.csv", table.round(4).assign(**birth))


if __name__ == "__main__":
    main()
