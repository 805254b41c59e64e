"""Training a population of small networks in one batched computation against training them one by one.

Both programs train the same networks (random architectures of EB-LNAST's space, the same starts, rows and steps) with
the same optimiser; one by one, each is a `nn.Sequential` of PyTorch's own. Programs alternate within one run; prints
median seconds, their ratio, and the largest difference of a logit between the two (float64). Ratios of one run are
comparable between machines; seconds are not.

    python benchmarks/population_training.py --population 48 --repeats 5 --out data/results/population_training.csv
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from bionas.studies.eb_lnast.population import OPTIMIZERS, Population, Training, train
from bionas.studies.eb_lnast.space import Architecture, LayerSpace
from bionas.studies.eb_lnast.tasks import TASKS
from bionas.system import files
from bionas.training.runs import commit


def one_by_one(networks: list[nn.Sequential], x: Tensor, y: Tensor, training: Training) -> None:
    """Each network trained on all rows in each step, as `population.train` does."""
    for network in networks:
        optimizer = OPTIMIZERS[training.optimizer](
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        for step in range(training.steps):
            share = (1 + math.cos(math.pi * step / training.steps)) / 2
            optimizer.param_groups[0]["lr"] = training.learning_rate * share
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()


def measure(
    architectures: list[Architecture], x: Tensor, y: Tensor, training: Training, repeats: int
) -> tuple[list[float], list[float], float]:
    """(seconds together, seconds one by one, largest difference of a logit), programs alternating."""
    together, apart, difference = [], [], 0.0
    for _repeat in range(repeats + 1):  # the first is a warm-up
        seeds = range(len(architectures))
        population = Population(architectures, x.shape[1], int(y.max()) + 1, seeds, x.dtype).to(x.device)
        networks = [population.member(i) for i in range(len(architectures))]
        together.append(_timed(train, population, x, y, training, 0))
        apart.append(_timed(one_by_one, networks, x, y, training))
        with torch.no_grad():
            alone = torch.stack([network(x) for network in networks])
            difference = max(difference, float((population(x) - alone).abs().max()))
    return together[1:], apart[1:], difference


def _timed(program: Callable[..., None], *arguments: Any) -> float:
    start = time.perf_counter()
    program(*arguments)
    if arguments[1].device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="wdbc", help="wdbc or colour")
    parser.add_argument("--population", type=int, nargs="+", default=[16, 48])
    parser.add_argument("--neurons", type=int, default=LayerSpace().neurons, help="of a layer at most")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="a CSV to write")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    task, space = TASKS[a.task](), LayerSpace(neurons=a.neurons)
    x = torch.tensor(StandardScaler().fit_transform(task.x)).to(a.device)
    y = torch.tensor(task.y).to(a.device)
    rows = []
    for members in a.population:
        points = np.random.default_rng(0).random((members, space.dimensions))
        architectures = [space.decode(point) for point in points]
        training = Training(steps=a.steps)
        *_, difference = measure(architectures, x, y, training, 1)
        together, apart, _ = measure(architectures, x.float(), y, training, a.repeats)
        ratios = [one / all_ for one, all_ in zip(apart, together)]
        rows.append(
            {
                "population": members,
                "together_s": statistics.median(together),
                "one_by_one_s": statistics.median(apart),
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "largest_difference_float64": difference,
            }
        )
        ratio = rows[-1]["ratio"]
        print(
            f"{members} networks: together {ratio:.1f} x faster than one by one; logits differ by {difference:.1e}"
        )
    table = pd.DataFrame(rows).assign(
        task=a.task,
        neurons=a.neurons,
        steps=a.steps,
        repeats=a.repeats,
        device=a.device,
        threads=a.threads,
        torch=torch.__version__,
        code=commit(),
        command=f"python benchmarks/population_training.py --task {a.task} "
        f"--population {' '.join(map(str, a.population))} --neurons {a.neurons} "
        f"--steps {a.steps} --repeats {a.repeats} --threads {a.threads}",
    )
    print(table.iloc[:, :7].to_string(index=False))
    if a.out:
        files.write_csv(a.out, table)


if __name__ == "__main__":
    main()
